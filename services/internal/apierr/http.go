package apierr

import (
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
)

// WriteHTTP answers a plain HTTP request with the error: the status as JSON, as in
// the transcoded API.
func WriteHTTP(w http.ResponseWriter, e *Error) {
	raw, err := protojson.Marshal(e.GRPCStatus().Proto())
	if err != nil {
		http.Error(w, e.Message(), httpCode(e.Code()))
		return
	}
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(httpCode(e.Code()))
	_, _ = w.Write(raw) // an error means that the client has left
}

// httpCode maps codes as the comments of google.rpc.Code state.
func httpCode(c codes.Code) int {
	switch c {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.AlreadyExists, codes.Aborted:
		return http.StatusConflict
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unimplemented:
		return http.StatusNotImplemented
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
