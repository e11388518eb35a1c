// Package api serves Kubernetes' REST API over one node's view, small enough
// for a daemon: discovery, get, list, watch, tables, patches, logs and exec,
// hand-written on apimachinery.
//
// Reads come from the view. Writes are decoded, defaulted and validated here
// and then handed to a Writer, which makes them files. Nothing is kept here.
//
// What only one node has (its pods' logs and streams, what is used there, its
// events) is asked of that node, through Nodes, and answered there by ServeNode.
//
// Who may connect to the socket may do everything that root may: run a
// privileged pod with / mounted. So it belongs to root, and to the group shoal
// where that exists; members of that group are root in all but name.
//
// Left out on purpose: server-side apply (415; it needs every field's schema
// on the heap), protobuf replies (JSON is what clients fall back to), watches
// over websockets, admission.
package api
