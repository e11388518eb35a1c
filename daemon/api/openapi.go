package api

import (
	"compress/gzip"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"

	"github.com/shoal-project/shoal/daemon/api/openapi"
)

// openAPIv2 is for kubectl before 1.27, which wants protobuf and nothing else.
func openAPIv2(w http.ResponseWriter, r *http.Request) {
	// They ask for ...spec.v2@v1.0+protobuf, which is no valid media type: as an
	// answer they could not read it.
	w.Header().Set("Content-Type", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf")
	gzipped(w, r, openapi.V2)
}

// openAPIv3Index names the documents, with their hash for client-side caches.
func (s *Server) openAPIv3Index(w http.ResponseWriter, _ *http.Request) {
	type document struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]document{}
	for _, gv := range s.kinds.versions() {
		path := "apis/" + gv.String()
		if gv.Group == "" {
			path = "api/" + gv.Version
		}
		if b, ok := openapi.V3(path); ok {
			paths[path] = document{fmt.Sprintf("/openapi/v3/%s?hash=%08X", path, crc32.ChecksumIEEE(b))}
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"paths": paths})
}

func openAPIv3(w http.ResponseWriter, r *http.Request) {
	b, ok := openapi.V3(r.PathValue("path"))
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	gzipped(w, r, string(b))
}

// gzipped sends a compressed document as it is where the client can take it.
func gzipped(w http.ResponseWriter, r *http.Request, doc string) {
	w.Header().Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Content-Length", fmt.Sprint(len(doc)))
		io.WriteString(w, doc)
		return
	}
	z, err := gzip.NewReader(strings.NewReader(doc))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	io.Copy(w, z)
}
