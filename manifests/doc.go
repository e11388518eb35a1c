// Package manifests turns files of Kubernetes YAML and JSON into objects.
//
// It decodes, defaults and validates with Kubernetes' own code
// (k8s.io/kubernetes), so that a message is one that users can search for, and
// says of each problem at which file, line and column it stands. It knows the
// directories that Shoal reads, in their order of precedence, and watches them.
//
//   - Decode, Validate, ValidateUpdate: bytes to objects, and what may change.
//   - Reader, Set, Memory: what the directories say, and what to keep between runs.
//   - Watch: when to look again.
//   - CheckPath, CheckData: the same for "shoal validate".
//
// The package decides nothing about the cluster: see daemon/record for which
// of several claims of one object wins.
package manifests
