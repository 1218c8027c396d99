package verify_test

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/openova-io/bp-relay/services/format/bag"
	"github.com/openova-io/bp-relay/services/format/leaf"
	"github.com/openova-io/bp-relay/services/verify"
)

// mostMemory is the most that the auditor's program may ever take, in bytes:
// its peak resident set, code and runtime included.
const mostMemory = 64 << 20

// hostileBag is a bag that nobody signed, made to fill the memory.
type hostileBag struct {
	name  string
	write func(t *testing.T, w *tarball)
}

// tarball writes a tar of generated files.
type tarball struct {
	*tar.Writer
	t *testing.T
}

func (w *tarball) file(name string, size int64, body io.Reader) {
	require.NoError(w.t, w.WriteHeader(bag.Header("evidence", name, size, 1)))
	_, err := io.CopyN(w, body, size)
	require.NoError(w.t, err)
}

func (w *tarball) text(name, s string) { w.file(name, int64(len(s)), strings.NewReader(s)) }

// many reads text n times.
func many(text string, n int) (int64, io.Reader) {
	return int64(len(text) * n), &repeated{text: []byte(text), left: n}
}

type repeated struct {
	text []byte
	left int
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && r.left > 0 {
		k := copy(p[n:], r.text[r.at:])
		n, r.at = n+k, r.at+k
		if r.at == len(r.text) {
			r.at, r.left = 0, r.left-1
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

const manifestAt = "data/recordings/c/manifest.dsse.json"

// envelopeOf writes a manifest's envelope of a repeated middle.
func envelopeOf(w *tarball, head, middle string, n int, tail string) {
	for len(head)%3 != 0 {
		head = " " + head
	}
	for len(middle)%3 != 0 {
		middle += " "
	}
	enc := base64.StdEncoding.EncodeToString
	begin := `{"payloadType":"application/vnd.in-toto+json","payload":"` + enc([]byte(head))
	end := enc([]byte(tail)) + `","signatures":[{"keyid":"SHA256:x","sig":"` + enc(make([]byte, 64)) + `"}]}`
	size, body := many(enc([]byte(middle)), n)
	w.file(manifestAt, int64(len(begin))+size+int64(len(end)), io.MultiReader(strings.NewReader(begin), body, strings.NewReader(end)))
}

func hostileBags() []hostileBag {
	const head = `{"_type":"https://in-toto.io/Statement/v1","predicate":{"capture":"orgs/a/captures/c","streams":[`
	const stream = `{"bytes":0,"count":0,"ct_bytes":0,"ext":"","head":"","media_type":"","name":"a","segments":[`
	return []hostileBag{
		{"count", func(_ *testing.T, w *tarball) {
			envelopeOf(w, head+strings.Replace(stream, `"count":0`, `"count":200000000`, 1), "   ", 22000, `]}],"v":1},"predicateType":"https://bp-relay/evidence/seal/v1"}`)
		}},
		{"segments", func(_ *testing.T, w *tarball) { envelopeOf(w, head+stream, "{},", 27_000_000, "{}]}]}}") }},
		{"marks", func(_ *testing.T, w *tarball) {
			envelopeOf(w, head+stream+`{"marks":[`, "{},", 27_000_000, "{}]}]}]}}")
		}},
		{"declared size", func(t *testing.T, w *tarball) {
			require.NoError(t, w.WriteHeader(bag.Header("evidence", manifestAt, 255<<20, 1)))
		}},
		{"declared sizes", func(t *testing.T, w *tarball) {
			for i := range 60 {
				w.text(fmt.Sprintf("evidence/keys/%d.pub", i), strings.Repeat("x", 1<<20))
			}
		}},
		{"signatures", func(_ *testing.T, w *tarball) {
			size, body := many(`{},`, 340_000)
			head := `{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[`
			w.file(bag.Signature, size+int64(len(head)), io.MultiReader(strings.NewReader(head), body))
		}},
		{"files", func(_ *testing.T, w *tarball) {
			for i := range 60_000 {
				w.text(fmt.Sprintf("data/recordings/c/segments/a/%08d-%s.age", i, strings.Repeat("ab", 32)), "")
			}
		}},
		{"long names", func(_ *testing.T, w *tarball) {
			for i := range 20_000 {
				w.text(fmt.Sprintf("data/%s/%d", strings.Repeat("x", 1000), i), "")
			}
		}},
		{"proofs", func(_ *testing.T, w *tarball) {
			for i := range 60_000 {
				w.text(bag.ProofPath(fmt.Sprintf("0198c0de-0000-7000-8000-%012x", i)), "")
			}
		}},
		{"custody lines", func(t *testing.T, w *tarball) {
			var b bytes.Buffer
			for i := range 300_000 {
				fmt.Fprintf(&b, `{"index":%d,"body":"{\"id\":\"0198c0de-0000-7000-8000-%012x\"}","readable":{"id":"0198c0de-0000-7000-8000-%012x","type":"","time":"","erased":true}}`+"\n", i, i, i)
			}
			_, err := bag.ParseLine(b.Bytes()[:bytes.IndexByte(b.Bytes(), '\n')+1])
			require.NoError(t, err, "the lines have the right form")
			w.text(bag.CustodyLog, b.String())
		}},
		{"long custody lines", func(t *testing.T, w *tarball) {
			var b bytes.Buffer
			for i := range 8 {
				l, err := leaf.New(fmt.Sprintf("0198c0de-0000-7000-8000-%012x", i), leaf.Act{Type: "capture.head", Detail: map[string]string{"x": strings.Repeat("y", 1_900_000)}})
				require.NoError(t, err)
				l.Index = int64(i)
				line, err := bag.EncodeLine(l)
				require.NoError(t, err)
				require.Less(t, len(line), bag.MaxLine)
				b.Write(line)
			}
			w.text(bag.CustodyLog, b.String())
		}},
		{"a custody line without end", func(_ *testing.T, w *tarball) {
			size, body := many("x", 100<<20)
			w.file(bag.CustodyLog, size, body)
		}},
		{"list lines", func(_ *testing.T, w *tarball) {
			var b bytes.Buffer
			for i := range 500_000 {
				fmt.Fprintf(&b, "%064x  data/%d\n", i, i)
			}
			w.text(bag.PayloadSums, b.String())
		}},
		{"damage lines", func(_ *testing.T, w *tarball) {
			size, body := many(`{"stream":"a","seq":1,"part":"stored","why":"missing"}`+"\n", 500_000)
			w.file(bag.Damaged, size, body)
		}},
		{"a name without end", func(t *testing.T, w *tarball) {
			require.NoError(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "evidence/" + strings.Repeat("y", 900_000), Mode: 0o644}))
		}},
	}
}

// A hostile bag, from a pipe and from a file, leaves the auditor's program below
// mostMemory, whatever it claims.
func TestHostileBagsNeedLittleMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs linux: ru_maxrss in KiB")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "relay-verify")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "../cmd/relay-verify")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	_, key := old(t, "rig")
	for _, h := range hostileBags() {
		t.Run(h.name, func(t *testing.T) {
			path := filepath.Join(dir, "bag.tar")
			f, err := os.Create(path)
			require.NoError(t, err)
			w := &tarball{Writer: tar.NewWriter(f), t: t}
			w.text(bag.Declaration, bag.DeclarationText)
			h.write(t, w)
			_ = w.Close() // a file may be cut off on purpose
			require.NoError(t, f.Close())
			for _, pipe := range []bool{false, true} {
				code, peak, said := measured(t, program, path, pipe, "--key", key)
				require.Equal(t, 1, code, "%.2000s", said)
				t.Logf("from a pipe %v: %d KiB", pipe, peak>>10)
				require.Less(t, peak, int64(mostMemory), "%.2000s", said)
			}
		})
	}
}

// measured runs the program and returns its peak resident set in bytes. A small
// process starts it, because a peak includes that of the process that forked.
func measured(t *testing.T, program, path string, pipe bool, args ...string) (code int, peak int64, said string) {
	t.Helper()
	const small = `
import os, sys
pid = os.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
_, status, use = os.wait4(pid, 0)
print(use.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))`
	where := path
	if pipe {
		where = "-"
	}
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-c", small, program, where}, args...)...)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	cmd.Stdin = struct{ io.Reader }{f} // not a file: a pipe, which cannot be read twice
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("python3 is missing: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	kib, err := strconv.ParseInt(lines[len(lines)-1], 10, 64)
	require.NoError(t, err, "%.2000s", out)
	return cmd.ProcessState.ExitCode(), kib << 10, string(out)
}

// A folder with many files is no different.
func TestAHostileFolderNeedsLittleMemory(t *testing.T) {
	_, key := old(t, "rig")
	dir := t.TempDir()
	for i := range 9000 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d", i)), nil, 0o600))
	}
	r, err := verify.Verify(t.Context(), verify.Config{Bag: dir, Key: key})
	require.NoError(t, err)
	require.True(t, has(r, verify.BagForm, ""), text(r))
	require.Less(t, r.Files, 5000)
}

// No input crashes the verifier, is taken for a bag, or takes much memory: what
// is allocated in all is bounded by a multiple of what there is.
func FuzzVerify(f *testing.F) {
	archive, key := old(f, "rig")
	f.Add(archive)
	f.Add(archive[:2000])
	session, _ := old(f, "session")
	f.Add(session)
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := verify.Verify(t.Context(), verify.Config{Bag: "-", Stdin: bytes.NewReader(b), Key: key, NotOlderThan: time.Hour})
		require.NoError(t, err)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20+64*len(b)))
		if !bytes.Equal(b, archive) {
			require.Equal(t, verify.Failed, r.Verdict, text(r))
		}
		shown := text(r)
		require.Equal(t, 2, strings.Count("\n"+shown, "\n"+shown[:strings.IndexByte(shown, '\n')]))
	})
}
