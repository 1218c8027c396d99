package edge

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"

	errorsv1 "github.com/openova-io/bp-relay/gen/relay/errors/v1"

	"github.com/openova-io/bp-relay/services/internal/apierr"
)

// repository is where the page's links lead.
const repository = "https://github.com/openova-io/bp-relay"

const rootStyle = `body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:3rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}
code{background:#f0f0f0;padding:.1em .3em;border-radius:3px}dt{font-weight:600;margin-top:1rem}dd{margin:0}small{color:#555}`

const rootPage = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>bp-relay</title>
<style>{{.Style}}</style>
<h1>bp-relay</h1>
<p>This is the API of a control plane for calls (LiveKit), for shells in a
browser (guacd), and for the evidence of both. It is for programs: there is nothing
to log in to here.</p>
<dl>
<dt>Call it</dt>
<dd>gRPC, gRPC-Web, Connect and JSON share this port. JSON paths begin with
<code>/v1/orgs/{org}/</code>: <code>rooms</code>, <code>recordings</code>, <code>connections</code>,
<code>sessions</code>. Every call needs the header <code>authorization: Bearer &lt;token&gt;</code>.</dd>
<dt>Read the API</dt>
<dd><a href="{{.Repository}}/tree/main/proto/relay">The protos</a> document every call, its permission and
its errors. gRPC reflection lists the services of this process.</dd>
<dt>Health and metrics</dt>
<dd><code>/readyz</code> and <code>/metrics</code> at the address of <code>listen.admin</code>, for the operator's network;
<code>grpc.health.v1.Health</code> on this port.</dd>
<dt>Documentation</dt>
<dd><a href="{{.Repository}}#readme">README</a>, <a href="{{.Repository}}/tree/main/docs">docs</a></dd>
</dl>
<p><small>Version {{.Version}}</small></p>
</html>
`

// root is the page at "/": it tells a person with a browser what this is. It
// loads nothing and says nothing that is secret.
type root struct {
	page   []byte
	policy string // Content-Security-Policy: the page's own style and nothing else
}

func newRoot(version string) *root {
	var page bytes.Buffer
	err := template.Must(template.New("root").Parse(rootPage)).Execute(&page, map[string]any{
		"Style": template.CSS(rootStyle), "Repository": repository, "Version": version,
	})
	if err != nil { // only a write can fail, and a Buffer does not
		panic(err)
	}
	sum := sha256.Sum256([]byte(rootStyle))
	return &root{page: page.Bytes(), policy: "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"}
}

func (p *root) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !acceptsHTML(r.Header.Values("Accept")) {
		apierr.WriteHTTP(w, noSuchPath())
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", p.policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	_, _ = w.Write(p.page) // an error: the client went away
}

// acceptsHTML reports whether an Accept header (RFC 9110 §12.5.1) admits
// text/html. A missing header admits everything. Weights are ignored.
func acceptsHTML(accept []string) bool {
	if len(accept) == 0 {
		return true
	}
	for kind := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		kind, _, _ = strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/html", "text/*", "*/*":
			return true
		}
	}
	return false
}

// noSuchPath is the answer to an unknown path.
func noSuchPath() *apierr.Error {
	return apierr.New(codes.NotFound, errorsv1.Reason_REASON_PATH_NOT_FOUND, "there is no such path; the protos name each one, and reflection lists the services")
}
