package stack_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

// TestSeaweedFSForUsOnly: whoever reaches SeaweedFS's ports and cannot read its
// folder lists nothing, writes nothing and deletes nothing, over HTTP or gRPC.
func TestSeaweedFSForUsOnly(t *testing.T) {
	env := stacktest.Env(t, part.SeaweedFS)
	s, err := env.StartSeaweedFS(t.Context(), stack.SeaweedFSConfig{Buckets: []string{"evidence"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop()) }()
	argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.Pid()))
	require.NoError(t, err)
	require.NotContains(t, string(argv), s.SecretKey)
	ports := map[string]string{}
	for _, m := range regexp.MustCompile(`-([a-z0-9.]+)=(\d+)\x00`).FindAllStringSubmatch(string(argv), -1) {
		ports[m[1]] = m[2]
	}

	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ask := func(method, url, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Accept", "application/json")
		res, err := client.Do(r)
		if err != nil {
			return 0, err.Error()
		}
		defer res.Body.Close()
		said, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		return res.StatusCode, string(said)
	}
	refused := func(method, url, body string) {
		t.Helper()
		code, said := ask(method, url, body)
		require.True(t, code == 0 || code >= 400, "%s %s: %d %s", method, url, code, said)
	}
	filer, volume := "http://127.0.0.1:"+ports["filer.port"], "http://127.0.0.1:"+ports["volume.port"]
	refused("GET", filer+"/buckets/", "")
	refused("GET", filer+"/buckets/evidence/", "")
	refused("POST", filer+"/buckets/evidence/forged", "forged")
	refused("PUT", filer+"/buckets/evidence/forged", "forged")
	refused("DELETE", filer+"/buckets/evidence?recursive=true", "")
	refused("POST", volume+"/1,01637037d6", "forged")
	refused("DELETE", volume+"/1,01637037d6", "")
	for _, scheme := range []string{"http", "https"} {
		master := scheme + "://127.0.0.1:" + ports["master.port"]
		refused("GET", master+"/dir/assign", "")
		refused("GET", master+"/dir/status", "")
		refused("POST", master+"/col/delete?collection=evidence", "")
		refused("POST", master+"/submit", "forged")
	}
	for name, port := range ports {
		if !strings.HasSuffix(name, ".grpc") {
			continue
		}
		// HTTP/2 without TLS, and TLS without a certificate: the server says so once
		// it is read from (RFC 8446, section 4.4.2.4).
		conn, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err == nil {
			require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
			_, err = io.ReadAll(conn)
			require.NoError(t, conn.Close())
		}
		require.ErrorContains(t, err, "certificate required", name)
	}
	requireClosed(t, env.Dir)
}

// requireClosed: no file and no folder below dir has a right for the group or for
// others.
func requireClosed(t *testing.T, dir string) {
	t.Helper()
	n := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n++
		// SeaweedFS gives its .vif files a mode of its own, in a folder that is closed.
		if info.Mode()&os.ModeSymlink == 0 && filepath.Ext(path) != ".vif" {
			require.Zero(t, info.Mode().Perm()&0o077, "%s is %s", path, info.Mode())
		}
		return nil
	}))
	require.Greater(t, n, 3)
}
