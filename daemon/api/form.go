package api

import (
	"bufio"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/shoal-project/shoal/daemon/view"
)

// form is how a client wants objects: whole, as rows of a table, or their
// metadata only.
type form struct {
	*resource
	as      string // "", "Table" or "PartialObjectMetadata"
	meta    string // apiVersion of the two latter
	include metav1.IncludeObjectPolicy
	now     time.Time
}

var errNotAcceptable = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable,
	Message: "only the following media types are accepted: application/json",
}}

// formOf picks the first of the Accept header's choices that can be had.
func (s *Server) formOf(r *http.Request, res *resource, q url.Values) (form, error) {
	f := form{resource: res, include: metav1.IncludeObjectPolicy(q.Get("includeObject")), now: s.Now()}
	switch f.include {
	case "", metav1.IncludeMetadata, metav1.IncludeNone, metav1.IncludeObject:
	default:
		return f, apierrors.NewBadRequest("includeObject must be None, Metadata or Object")
	}
	accept := r.Header.Get("Accept")
	if accept == "" {
		return f, nil
	}
	for _, choice := range strings.Split(accept, ",") {
		kind, params, err := mime.ParseMediaType(choice)
		if err != nil || kind != "application/json" && kind != "application/*" && kind != "*/*" {
			continue
		}
		switch params["as"] {
		case "":
			return f, nil
		case "Table", "PartialObjectMetadata", "PartialObjectMetadataList":
			if params["g"] != metav1.GroupName || params["v"] != "v1" && params["v"] != "v1beta1" {
				continue
			}
			f.as = strings.TrimSuffix(params["as"], "List")
			f.meta = schema.GroupVersion{Group: params["g"], Version: params["v"]}.String()
			return f, nil
		}
	}
	return f, errNotAcceptable
}

// one is a single object in the client's form, ready to be encoded.
func (f form) one(o view.Object) (runtime.Object, error) {
	switch f.as {
	case "Table":
		t := f.table(columnsOf(f.groupKind()))
		t.ResourceVersion = o.GetResourceVersion()
		row, err := f.row(o)
		if err != nil {
			return nil, err
		}
		t.Rows = []metav1.TableRow{row}
		return t, nil
	case "PartialObjectMetadata":
		return f.metadata(o), nil
	}
	return as(o, f.gvk())
}

// item is an object as a part of a list.
func (f form) item(o view.Object) (any, error) {
	switch f.as {
	case "Table":
		return f.row(o)
	case "PartialObjectMetadata":
		return f.metadata(o), nil
	}
	return as(o, f.gvk())
}

func (f form) metadata(o view.Object) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{Kind: "PartialObjectMetadata", APIVersion: f.meta},
		ObjectMeta: *o.(metav1.ObjectMetaAccessor).GetObjectMeta().(*metav1.ObjectMeta),
	}
	if f.as == "Table" {
		m.APIVersion = metav1.SchemeGroupVersion.String()
	}
	return m
}

func (f form) table(columns []metav1.TableColumnDefinition) *metav1.Table {
	return &metav1.Table{
		TypeMeta:          metav1.TypeMeta{Kind: "Table", APIVersion: f.meta},
		ColumnDefinitions: columns,
		Rows:              []metav1.TableRow{},
	}
}

// row is an object as a line of a table.
func (f form) row(o view.Object) (metav1.TableRow, error) {
	o, err := as(o, f.gvk())
	if err != nil {
		return metav1.TableRow{}, err
	}
	row := metav1.TableRow{Cells: cellsOf(f.groupKind(), o, f.now)}
	switch f.include {
	case metav1.IncludeObject:
		row.Object.Object = o
	case "", metav1.IncludeMetadata:
		row.Object.Object = f.metadata(o)
	}
	return row, nil
}

// list writes a list item by item, so that a thousand pods are never encoded
// in memory at once.
func (f form) list(w io.Writer, meta metav1.ListMeta, items []view.Object) error {
	head := map[string]any{"metadata": meta}
	field := "items"
	switch f.as {
	case "Table":
		head["kind"], head["apiVersion"], field = "Table", f.meta, "rows"
		head["columnDefinitions"] = columnsOf(f.groupKind())
	case "PartialObjectMetadata":
		head["kind"], head["apiVersion"] = "PartialObjectMetadataList", f.meta
	default:
		head["kind"], head["apiVersion"] = f.Kind+"List", f.gv().String()
	}
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	buf := bufio.NewWriterSize(w, 16<<10)
	buf.Write(b[:len(b)-1])
	buf.WriteString(`,"` + field + `":[`)
	enc := json.NewEncoder(buf)
	for i, o := range items {
		if i > 0 {
			buf.WriteByte(',')
		}
		item, err := f.item(o)
		if err != nil {
			return err
		}
		if err := enc.Encode(item); err != nil {
			return err
		}
	}
	buf.WriteString("]}\n")
	return buf.Flush()
}

func encode(w io.Writer, v any) { json.NewEncoder(w).Encode(v) }

// reply answers with one object.
func (s *Server) reply(w http.ResponseWriter, f form, code int, o view.Object) error {
	out, err := f.one(o)
	if err != nil {
		return err
	}
	writeJSON(w, code, out)
	return nil
}
