package edge

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"

	"connectrpc.com/connect"
	"connectrpc.com/vanguard"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// uniform stands before the transcoder. It accepts a Connect call without its
// version header, and rewrites the errors that the transcoder itself makes into
// the API's own form.
type uniform struct {
	next    http.Handler
	methods map[string]bool
}

const connectVersion = "Connect-Protocol-Version"

func (e *uniform) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && e.methods[r.URL.Path] && r.Header.Get(connectVersion) == "" && unaryConnect(r.Header.Get("Content-Type")) {
		// The header is optional (Connect protocol, "Unary-Request"): curl does
		// not send it. But the transcoder treats a call without it as REST.
		r.Header.Set(connectVersion, "1")
	}
	if !strings.HasPrefix(r.URL.Path, "/v1/") {
		e.next.ServeHTTP(w, r)
		return
	}
	rest := &restErrors{ResponseWriter: w}
	e.next.ServeHTTP(rest, r)
	rest.finish()
}

// routes serves the plain HTTP routes, and answers all other paths and methods
// with an error in the API's form.
type routes struct{ mux *http.ServeMux }

func (h *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := h.mux.Handler(r); pattern != "" {
		noted := &status{ResponseWriter: w}
		h.mux.ServeHTTP(noted, r)
		if r.Method == http.MethodPost { // a GET proves nothing
			proven(r, noted.code)
		}
		return
	}
	errs := &restErrors{ResponseWriter: w}
	h.mux.ServeHTTP(errs, r)
	errs.finish()
}

// status notes the status of an answer.
type status struct {
	http.ResponseWriter
	code int
}

func (w *status) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *status) Write(p []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for [http.ResponseController].
func (w *status) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// unaryConnect reports whether the type is that of a unary Connect request.
func unaryConnect(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.TrimSpace(kind) {
	case "application/json", "application/proto":
		return true
	}
	return false
}

// restErrors holds an error response back until it is complete, and then writes
// it in the API's own form. Other responses pass through unchanged.
type restErrors struct {
	http.ResponseWriter
	code   int         // of the error that is held back; 0 if none is
	header http.Header // at that moment: the handler may still change its own
	body   bytes.Buffer
}

func (w *restErrors) WriteHeader(code int) {
	if code >= http.StatusBadRequest && w.code == 0 {
		w.code, w.header = code, w.Header().Clone()
	}
	if w.code == 0 {
		w.ResponseWriter.WriteHeader(code)
	}
}

func (w *restErrors) Write(p []byte) (int, error) {
	if w.code != 0 {
		return w.body.Write(p)
	}
	return w.ResponseWriter.Write(p)
}

// Flush implements [http.Flusher], which the transcoder needs. An error is not
// flushed.
func (w *restErrors) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok && w.code == 0 {
		f.Flush()
	}
}

// Unwrap is for [http.ResponseController].
func (w *restErrors) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *restErrors) finish() {
	if w.code == 0 {
		return
	}
	clear(w.Header())
	maps.Copy(w.Header(), w.header)
	var said struct {
		Code    codes.Code        `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	}
	if err := json.Unmarshal(w.body.Bytes(), &said); err != nil {
		said.Message = strings.TrimSpace(w.body.String())
	}
	if len(said.Details) > 0 {
		w.ResponseWriter.WriteHeader(w.code)
		_, _ = w.ResponseWriter.Write(w.body.Bytes()) // an error: the client went away
		return
	}
	w.Header().Del("Content-Length")
	w.Header().Del("Content-Encoding")
	writeAs(w.ResponseWriter, w.code, transcoderError(w.code, said.Code, said.Message))
}

// transcoderError is the error for a request that reached no service.
func transcoderError(status int, code codes.Code, message string) *apierr.Error {
	switch {
	case status == http.StatusNotFound && code == codes.OK:
		return noSuchPath()
	case status == http.StatusMethodNotAllowed:
		return apierr.New(codes.Unimplemented, errorsv1.Reason_REASON_METHOD_NOT_ALLOWED, "this path does not accept that HTTP method; the Allow header lists the methods that it accepts")
	case status == http.StatusUnsupportedMediaType:
		return apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_CONTENT_TYPE_UNSUPPORTED, message+"; send application/json")
	case code == codes.Unknown, code == codes.InvalidArgument:
		return apierr.New(codes.InvalidArgument, errorsv1.Reason_REASON_REQUEST_MALFORMED, message)
	case code == codes.ResourceExhausted:
		return apierr.New(code, errorsv1.Reason_REASON_REQUEST_TOO_LARGE, message+"; send less")
	}
	return apierr.New(codes.Internal, errorsv1.Reason_REASON_INTERNAL, message)
}

// writeAs writes the error. It keeps a status that is more precise than that of
// the error's code: 405 and 415.
func writeAs(w http.ResponseWriter, status int, e *apierr.Error) {
	if status == http.StatusMethodNotAllowed || status == http.StatusUnsupportedMediaType {
		w = &fixedStatus{w, status}
	}
	apierr.WriteHTTP(w, e)
}

// fixedStatus replaces every status by its own.
type fixedStatus struct {
	http.ResponseWriter
	status int
}

func (w *fixedStatus) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }

// jsonCodec reports an unreadable body as INVALID_ARGUMENT; the transcoder alone
// would report UNKNOWN.
type jsonCodec struct{ vanguard.JSONCodec }

func (c jsonCodec) Unmarshal(b []byte, m proto.Message) error {
	return malformed(c.JSONCodec.Unmarshal(b, m))
}

func (c jsonCodec) UnmarshalField(b []byte, m proto.Message, f protoreflect.FieldDescriptor) error {
	return malformed(c.JSONCodec.UnmarshalField(b, m, f))
}

func malformed(err error) error {
	if err == nil {
		return nil
	}
	ce := connect.NewError(connect.CodeInvalidArgument, err)
	info, detailErr := connect.NewErrorDetail(&errdetails.ErrorInfo{
		Reason: apierr.ReasonName(errorsv1.Reason_REASON_REQUEST_MALFORMED), Domain: apierr.Domain,
	})
	if detailErr == nil {
		ce.AddDetail(info)
	}
	return ce
}
