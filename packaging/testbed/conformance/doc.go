// Package conformance checks what the documents claim about pods: every field of a pod (docs/pods.md), and the examples
// of Kubernetes' documentation (docs/conformance.md). It has tests only. They run on one light host of a test-bed, with
// shoald installed and the bed's registry as the mirror of Docker Hub:
//
//	go test ./packaging/testbed/conformance
//	go test ./packaging/testbed/conformance -run 'TestFields/env-.*' -bed NAME   # on a bed that is up already
//
// A story is a txtar file that is told to the host section by section:
//
//	pods.yaml   becomes the story's file in /etc/shoal/manifests, all of it in a namespace named after the story
//	file.yaml   becomes the story's file as it is
//	validate    what `shoal validate` says of the file, without its name
//	want        facts to wait for, one a line, see [fact]
//	why         for docs/conformance.md: why an example does not run, or not all of it
//	host        a script, run on the host again and again until it prints what the next section, "says", has
package conformance
