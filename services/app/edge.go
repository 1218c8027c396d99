package app

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

// edge stands before the transcoder. It lets a Connect call be made with
// nothing but a body, and gives the errors that the transcoder makes by itself
// the form that all others have.
type edge struct {
	next    http.Handler
	methods map[string]bool
}

const connectVersion = "Connect-Protocol-Version"

func (e *edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost && e.methods[r.URL.Path] && r.Header.Get(connectVersion) == "" && unaryConnect(r.Header.Get("Content-Type")) {
		// Connect: "Servers may require [it]"; curl does not send it, and the
		// transcoder takes a call without it for REST.
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

// unaryConnect says whether the type is one of Connect's unary requests.
func unaryConnect(contentType string) bool {
	kind, _, _ := strings.Cut(contentType, ";")
	switch strings.TrimSpace(kind) {
	case "application/json", "application/proto":
		return true
	}
	return false
}

// restErrors holds back an error answer until it is whole, and writes it in
// our form where it is not in it yet. Every other answer passes as it comes.
type restErrors struct {
	http.ResponseWriter
	code   int         // of the error that is held back; 0 where none is
	header http.Header // as it was then: the handler behind goes on and sets its own
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

// Flush passes on what is no error: the transcoder asks for it.
func (w *restErrors) Flush() {
	if f, ok := w.ResponseWriter.(http.Flusher); ok && w.code == 0 {
		f.Flush()
	}
}

// Unwrap is for http.ResponseController.
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
		_, _ = w.ResponseWriter.Write(w.body.Bytes()) // the client went away: nothing to do
		return
	}
	w.Header().Del("Content-Length")
	w.Header().Del("Content-Encoding")
	writeAs(w.ResponseWriter, w.code, transcoderError(w.code, said.Code, said.Message))
}

// transcoderError is the answer to what no handler of ours has seen.
func transcoderError(status int, code codes.Code, message string) *apierr.Error {
	switch {
	case status == http.StatusNotFound && code == codes.OK:
		return apierr.New(codes.NotFound, errorsv1.Reason_REASON_SERVICE_NOT_HERE, "there is no such path; the protos name each one, and reflection lists the services")
	case status == http.StatusMethodNotAllowed:
		return apierr.New(codes.Unimplemented, errorsv1.Reason_REASON_SERVICE_NOT_HERE, "this path does not take that HTTP method; the Allow header lists those that it takes")
	case status == http.StatusUnsupportedMediaType:
		return apierr.Field("content-type", message+"; send application/json")
	case code == codes.Unknown, code == codes.InvalidArgument:
		return apierr.Field("request", message)
	case code == codes.ResourceExhausted:
		return apierr.New(code, errorsv1.Reason_REASON_FIELD_INVALID, message+"; send less", "field", "request")
	}
	return apierr.New(codes.Internal, errorsv1.Reason_REASON_INTERNAL, message)
}

// writeAs answers with the error; a status that tells more than the code's own
// (405, 415) is kept.
func writeAs(w http.ResponseWriter, status int, e *apierr.Error) {
	if status == http.StatusMethodNotAllowed || status == http.StatusUnsupportedMediaType {
		w = &fixedStatus{w, status}
	}
	apierr.WriteHTTP(w, e)
}

// fixedStatus answers with its own status.
type fixedStatus struct {
	http.ResponseWriter
	status int
}

func (w *fixedStatus) WriteHeader(int) { w.ResponseWriter.WriteHeader(w.status) }

// jsonCodec says that a body which cannot be read is the caller's mistake; the
// transcoder alone would call it UNKNOWN.
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
		Reason: apierr.ReasonName(errorsv1.Reason_REASON_FIELD_INVALID), Domain: apierr.Domain, Metadata: map[string]string{"field": "request"},
	})
	if detailErr == nil {
		ce.AddDetail(info)
	}
	return ce
}
