package edge

import (
	"compress/gzip"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/openova-io/bp-relay/services/internal/rpc"
)

// gunzip decompresses a message of at most rpc.MaxMessage bytes. The transcoder
// bounds a message only before it is decompressed.
type gunzip struct {
	gzip.Reader
	left int64
}

func newGunzip() connect.Decompressor { return new(gunzip) }

// Reset implements [connect.Decompressor].
func (g *gunzip) Reset(r io.Reader) error {
	g.left = rpc.MaxMessage
	return g.Reader.Reset(r)
}

// Read implements [connect.Decompressor].
func (g *gunzip) Read(p []byte) (int, error) {
	if g.left <= 0 { // one byte more, to tell a full message from a longer one
		var more [1]byte
		if n, err := g.Reader.Read(more[:]); n == 0 {
			return 0, err
		}
		return 0, connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the message has more than %d bytes after decompression", rpc.MaxMessage))
	}
	n, err := g.Reader.Read(p[:min(int64(len(p)), g.left)])
	g.left -= int64(n)
	return n, err
}
