package api

import (
	"encoding/json"
	"net/http"
)

// KeyEvent is one line of the answer to a rotation of the cluster's key; the last
// one has Done or Error.
type KeyEvent struct {
	Text  string `json:"text,omitempty"` // how far it is, in words
	Done  bool   `json:"done,omitempty"`
	Error string `json:"error,omitempty"`
}

// keyRoutes serves POST /shoal/v1/key/rotate, and with ?finish=true its end.
// Keys themselves are never told.
func (s *Server) keyRoutes() {
	s.mux.HandleFunc("POST /shoal/v1/key/rotate", func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.watches <- struct{}{}:
			defer func() { <-s.watches }()
		default:
			s.fail(w, r, busy("watches and streams"))
			return
		}
		w.Header().Set("Content-Type", "application/jsonl")
		out := &flushing{w: w, c: http.NewResponseController(w)}
		enc := json.NewEncoder(out)
		last := KeyEvent{Done: true}
		err := s.Shoal.RotateKey(r.Context(), r.URL.Query().Get("finish") == "true", func(text string) {
			_ = enc.Encode(KeyEvent{Text: text}) // who went away may run it again
			out.flush()
		})
		if err != nil {
			last = KeyEvent{Error: err.Error()}
		}
		_ = enc.Encode(last)
	})
}
