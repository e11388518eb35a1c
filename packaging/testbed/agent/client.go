package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Client runs commands in the host whose agent it reaches.
type Client struct{ http *http.Client }

// Dial makes a connection to an agent.
type Dial func(context.Context) (net.Conn, error)

// NewClient returns a client that connects with dial when it must.
func NewClient(dial Dial) *Client {
	return &Client{&http.Client{Transport: Transport(dial)}}
}

// Transport is what an HTTP client or proxy needs to talk to an agent.
func Transport(dial Dial) *http.Transport {
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Protocols:   &h2c,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Exec runs a command to its end and returns its exit code, 128 plus the signal for one that a signal ended. An error
// means that the host could not be reached, the program not started or the connection was lost. The command is killed
// when ctx ends first.
func (c *Client) Exec(ctx context.Context, command Command, streams IO) (exit int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	body, requests := io.Pipe()
	defer body.Close()
	// The transport notices the end of ctx only between two reads of the body.
	stop := context.AfterFunc(ctx, func() { _ = body.CloseWithError(context.Cause(ctx)) })
	defer stop()
	go send(requests, command, streams)

	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://agent/exec", body)
	if err != nil {
		return 0, err
	}
	answer, err := c.http.Do(req)
	if err != nil {
		return 0, fmt.Errorf("reach the host's agent: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(io.LimitReader(answer.Body, 1024))
		return 0, fmt.Errorf("agent: %s: %s", answer.Status, reason)
	}
	return receive(answer.Body, streams)
}

// send writes the request's frames until the input ends or nobody reads them any more.
func send(w *io.PipeWriter, command Command, streams IO) {
	frames := &frameWriter{w: w}
	if frames.writeJSON(frameCommand, command) != nil {
		return
	}
	if streams.Resize != nil {
		go func() {
			for size := range streams.Resize {
				if frames.writeJSON(frameResize, size) != nil {
					return
				}
			}
		}()
	}
	if streams.Stdin != nil {
		if _, err := io.Copy(frames.stream(frameStdin), streams.Stdin); err != nil {
			_ = w.CloseWithError(err)
			return
		}
	}
	_ = frames.write(frameStdin, nil)
}

func receive(r io.Reader, streams IO) (exit int, err error) {
	for {
		kind, payload, err := readFrame(r)
		if err != nil {
			return 0, fmt.Errorf("the host's agent went away: %w", err)
		}
		switch kind {
		case frameStdout:
			err = writeTo(streams.Stdout, payload)
		case frameStderr:
			err = writeTo(streams.Stderr, payload)
		case frameExit:
			err = json.Unmarshal(payload, &exit)
			return exit, err
		case frameFailed:
			return 0, errors.New(string(payload))
		}
		if err != nil {
			return 0, err
		}
	}
}

func writeTo(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}
