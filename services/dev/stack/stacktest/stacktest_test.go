package stacktest_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/stack"
	"github.com/openova-io/bp-relay/services/dev/stack/stacktest"
)

var shared stacktest.Shared

func TestMain(m *testing.M) { os.Exit(shared.Run(m)) }

func TestSeaweedFS(t *testing.T) {
	began := time.Now()
	s := stacktest.SeaweedFS(t, "aaa", "bbb", "ccc", "ddd")
	t.Log("up in", time.Since(began))
	_, err := stack.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, s.SecretKey)
	require.NoError(t, err)
	_, err = stack.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "secret key")
	_, err = stack.CheckS3(t.Context(), s.Endpoint, "", "nobody", "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "access key")
	began = time.Now()
	require.NoError(t, s.Stop())
	t.Log("down in", time.Since(began))
	_, err = stack.CheckS3(t.Context(), s.Endpoint, "", s.AccessKey, s.SecretKey)
	t.Log(err)
	require.ErrorContains(t, err, "nothing listens")
}

// TestSeaweedFSKeepsWhatItAcknowledged: many buckets can be written, and a
// killed SeaweedFS has their objects again.
func TestSeaweedFSKeepsWhatItAcknowledged(t *testing.T) {
	var buckets []string
	for i := range 12 {
		buckets = append(buckets, fmt.Sprintf("bucket-%d", i))
	}
	env := stacktest.Env(t, part.SeaweedFS)
	s, err := env.StartSeaweedFS(t.Context(), stack.SeaweedFSConfig{Buckets: buckets})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Stop()) }()
	client := func() *s3.Client {
		return s3.New(s3.Options{Region: s.Region, BaseEndpoint: &s.Endpoint, UsePathStyle: true,
			Credentials:                credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
			RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired})
	}
	cl, key := client(), "k"
	for _, b := range buckets {
		_, err := cl.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b, Key: &key, Body: strings.NewReader(b)})
		require.NoError(t, err, b)
	}
	for round := range 2 {
		if round == 0 {
			require.NoError(t, s.Kill())
			require.NoError(t, s.Restart(t.Context()))
		} else { // the next run has other ports
			require.NoError(t, s.Stop())
			s, err = env.StartSeaweedFS(t.Context(), stack.SeaweedFSConfig{})
			require.NoError(t, err)
			cl = client()
		}
		readAndAdd(t, cl, buckets, key)
	}
}

func readAndAdd(t *testing.T, cl *s3.Client, buckets []string, key string) {
	t.Helper()
	for _, b := range buckets {
		out, err := cl.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &b, Key: &key})
		require.NoError(t, err, b)
		body, err := io.ReadAll(out.Body)
		require.NoError(t, err)
		require.NoError(t, out.Body.Close())
		require.Equal(t, b, string(body))
		more := fmt.Sprint("more", time.Now().UnixNano())
		_, err = cl.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &b, Key: &more, Body: strings.NewReader("more")})
		require.NoError(t, err, b)
	}
}

func TestLiveKit(t *testing.T) {
	began := time.Now()
	l := stacktest.LiveKit(t)
	t.Log("up in", time.Since(began))
	_, err := stack.CheckLiveKit(t.Context(), l.SignalURL, l.Key, l.Secret)
	require.NoError(t, err)
	_, err = stack.CheckLiveKit(t.Context(), l.URL, l.Key, "wrong")
	t.Log(err)
	require.ErrorContains(t, err, "refuses the API key")
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", l.Pid()))
	require.NoError(t, err)
	_, config, found := strings.Cut(strings.TrimRight(string(command), "\x00"), "--config\x00")
	require.True(t, found, string(command))
	said, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NotContains(t, string(said), fmt.Sprintf("127.0.0.1:%d", l.UDPPort), "a browser hears nothing from the address of its STUN server")
	began = time.Now()
	require.NoError(t, l.Stop())
	t.Log("down in", time.Since(began))
	_, err = stack.CheckLiveKit(t.Context(), l.URL, l.Key, l.Secret)
	require.ErrorContains(t, err, "nothing listens")
}

func TestGuacd(t *testing.T) {
	g := stacktest.Guacd(t)
	_, err := stack.CheckGuacd(t.Context(), g.Address)
	require.NoError(t, err)
	require.NoError(t, g.Stop())
	_, err = stack.CheckGuacd(t.Context(), g.Address)
	require.ErrorContains(t, err, "nothing listens")
}

func TestPostgres(t *testing.T) {
	p := stacktest.Postgres(t)
	_, err := stack.CheckPostgres(t.Context(), p.URL)
	require.NoError(t, err)
	_, err = stack.CheckPostgres(t.Context(), strings.Replace(p.URL, "relay:", "relay:x", 1))
	t.Log(err)
	require.ErrorContains(t, err, "refuses the user or the password")
	require.NoError(t, p.Kill())
	require.NoError(t, p.Restart(t.Context()))
	_, err = stack.CheckPostgres(t.Context(), p.URL)
	require.NoError(t, err)
}

func TestRedis(t *testing.T) {
	r := stacktest.Redis(t)
	_, err := stack.CheckRedis(t.Context(), r.URL)
	require.NoError(t, err)
	_, err = stack.CheckRedis(t.Context(), strings.Replace(r.URL, ":"+r.Password, ":x", 1))
	t.Log(err)
	require.ErrorContains(t, err, "refuses the password")
}

// TestStunnerd serves a fixed configuration, as a file server would: what is
// proved here is that the data plane is fed and reports ready.
func TestStunnerd(t *testing.T) {
	turn, health := stacktest.Port(t), stacktest.Port(t)
	config := fmt.Sprintf(`{"version":"v1","admin":{"name":"relay/gw","healthcheck_endpoint":"http://127.0.0.1:%d"},
		"auth":{"type":"ephemeral","realm":"relay.local","credentials":{"secret":"s3cret"}},
		"listeners":[{"name":"udp","protocol":"turn-udp","address":"127.0.0.1","port":%d,"routes":["sfu"]}],
		"clusters":[{"name":"sfu","type":"STATIC","protocol":"udp","endpoints":["127.0.0.1"]}]}`, health, turn)
	s := stacktest.Stunnerd(t, stacktest.Discovery(t, "relay/gw", config), "relay/gw")

	res, err := http.Get(s.Health + "/status")
	require.NoError(t, err)
	status, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Contains(t, string(status), "READY")
	require.NotContains(t, string(status), "s3cret", "everybody on this machine can ask for the status")

	conn, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", turn))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	// A STUN Binding request: RFC 8489, section 5.
	_, err = conn.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl"))
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	answer := make([]byte, 1500)
	n, err := conn.Read(answer)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 20)
	require.Equal(t, "\x01\x01", string(answer[:2]), "a Binding success response")

	out, err := exec.Command("ss", "-Hlntup").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, fmt.Sprintf("pid=%d,", s.Pid())) {
			require.Contains(t, line, "127.0.0.1:", "everything listens on loopback only")
		}
	}
}
