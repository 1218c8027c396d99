package dataplane

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// sample has the form that stunnerd v1.2.1 answers with.
const sample = `{"version":"v1","admin":{"name":"relay/default@3-ab","loglevel":"all:INFO","healthcheck_endpoint":"http://127.0.0.1:8086","quota":"0"},
"auth":{"type":"ephemeral","realm":"relay.openova.io","credentials":{"secret":"TOPSECRET"}},
"listeners":[{"name":"udp","protocol":"TURN-UDP","address":"127.0.0.1","port":3478,"key":"TOPSECRET","routes":["sfu"],"stats":{"rx":{"pkts":0,"bytes":0,"timestamp":0}}}],
"clusters":[{"name":"sfu","type":"STATIC","protocol":"UDP","endpoints":["127.0.0.1:<7882-7882>"]}],"allocationCount":2,"status":"READY"}`

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	c, err := New(netip.MustParseAddrPort(srv.Listener.Addr().String()))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func TestStatusTakesNoSecret(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/status", r.URL.Path)
		_, _ = fmt.Fprint(w, sample)
	})
	got, err := c.Status(context.Background())
	require.NoError(t, err)
	require.Equal(t, Status{Version: "relay/default@3-ab", Ready: true, Allocations: 2, Listeners: []string{"udp"}}, got)
	require.NotContains(t, fmt.Sprintf("%+v", got), "TOPSECRET")
}

func TestStrangeAnswers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"not JSON":  func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "TOPSECRET") },
		"truncated": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, sample[:300]) },
		"wrong type": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, `{"admin":{"name":{"s":"TOPSECRET"}},"status":"READY"}`)
		},
		"other": func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, `{"ok":true}`) },
		"too long": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, strings.Repeat(" ", maxBody+1)+sample)
		},
		"error": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "TOPSECRET", 500) },
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, h).Status(context.Background())
			require.ErrorIs(t, err, ErrStatus)
			require.NotContains(t, err.Error(), "TOPSECRET")
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, a := range []string{"192.0.2.1:8086", "0.0.0.0:8086", "[::]:8086"} {
		_, err := New(netip.MustParseAddrPort(a))
		require.Error(t, err, a)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte(`{"admin":null,"listeners":[null],"status":"READY"}`))
	f.Add([]byte(`{"admin":{},"allocationCount":-1,"status":"x"}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := parse(p)
		if err != nil {
			require.ErrorIs(t, err, ErrStatus)
			require.Zero(t, s)
			return
		}
		require.GreaterOrEqual(t, s.Allocations, 0)
	})
}
