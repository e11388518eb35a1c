package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What callers branch on; errors.Is finds them in every error of this package. The text around them names the image
// and the cure.
var (
	ErrNotFound      = errors.New("image is not on this host")
	ErrNotInRegistry = errors.New("image is not in the registry")
	ErrUnauthorized  = errors.New("registry denied access")
	ErrTLS           = errors.New("TLS with the registry failed")
	ErrUnreachable   = errors.New("registry is unreachable")
	ErrPlatform      = errors.New("image is not for this platform")
	ErrDiskFull      = errors.New("disk is full")
	ErrInvalid       = errors.New("image is invalid") // corrupt, hostile, or of a kind that cannot run
	ErrInvalidName   = errors.New("invalid image name")
	ErrInUse         = errors.New("image is in use")
	ErrNewerFormat   = errors.New("image store has a newer format")
	ErrLocked        = errors.New("image store is in use by another process")
)

// failure is an error of a known kind whose text says more than the kind alone.
type failure struct {
	kind  error
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error { return []error{f.kind, f.cause} }

func invalidf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &failure{ErrInvalid, err.Error(), err}
}

// errPlainHTTP is what the transport answers instead of speaking plain HTTP to a host that nobody declared as such.
var errPlainHTTP = errors.New("plain HTTP is not enabled for it")

// explain gives an error of talking to host its kind and adds the cure. Errors that have a kind already, and
// cancellation, pass unchanged.
func explain(host string, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	if full := diskFull(err); full != nil {
		return full
	}
	var status *transport.Error
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var unknownCA x509.UnknownAuthorityError
	var op *net.OpError
	var lookup *net.DNSError
	var netErr net.Error // last: every *url.Error is one
	because := func(kind error, cure string) error {
		return &failure{kind, fmt.Sprintf("%v: %s: %v%s", kind, host, err, cure), err}
	}
	switch {
	case errors.As(err, &unknownCA), errors.As(err, &verify):
		return because(ErrTLS, fmt.Sprintf(" (if the registry has its own CA, set ca_file for %q in [[registries]] of shoal.toml)", host))
	case errors.As(err, &status):
		return explainStatus(status, because)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &record):
		return because(ErrTLS, fmt.Sprintf(" (it seems to speak plain HTTP: if you trust the network, set plain_http = true for %q in [[registries]] of shoal.toml)", host))
	case errors.As(err, &op), errors.As(err, &lookup):
		return because(ErrUnreachable, "")
	case errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, errPlainHTTP):
		return because(ErrTLS, fmt.Sprintf(" (set plain_http = true for %q in [[registries]] of shoal.toml if you trust the network)", host))
	case errors.As(err, &netErr), errors.Is(err, errStalled), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return because(ErrUnreachable, "")
	}
	return fmt.Errorf("%s: %w", host, err)
}

func explainStatus(status *transport.Error, because func(error, string) error) error {
	switch status.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return because(ErrUnauthorized, " (the image may not exist, or imagePullSecrets are missing or wrong)")
	case http.StatusNotFound:
		return because(ErrNotInRegistry, " (check the name and the tag)")
	case http.StatusTooManyRequests:
		return because(ErrUnreachable, " (it limits the rate of pulls: try later, log in, or set a mirror)")
	}
	if status.StatusCode >= http.StatusInternalServerError {
		return because(ErrUnreachable, "")
	}
	return because(ErrInvalid, "")
}

// withoutQuery drops the URL of a request from its error: after a redirect to object storage its query holds a signature
// that lets whoever reads the log fetch the blob.
func withoutQuery(err error) error {
	var u *url.Error
	if !errors.As(err, &u) {
		return err
	}
	parsed, perr := url.Parse(u.URL)
	if perr != nil || parsed.RawQuery == "" && parsed.User == nil {
		return err
	}
	return fmt.Errorf("%s %s://%s%s: %w", u.Op, parsed.Scheme, parsed.Host, parsed.Path, u.Err)
}

// diskFull is the ErrDiskFull form of err if a full disk or quota is behind it, else nil.
func diskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &failure{ErrDiskFull, fmt.Sprintf("%v: %v (free space, or remove images with shoal image rm)", ErrDiskFull, err), err}
	}
	return nil
}
