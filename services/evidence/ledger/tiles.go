package ledger

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"golang.org/x/mod/sumdb/tlog"
)

// tileHeight is fixed by C2SP tlog-tiles: a tile has 256 hashes.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// tilePath is the path of a tile (level "0", "1", ...) or entry bundle (level
// "entries"), such as "tile/0/x001/x234/067.p/12": the index in zero-padded
// groups of three digits, all but the last after an x, then the width if the
// tile is not full (C2SP tlog-tiles).
func tilePath(level string, n int64, width int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < tileWidth {
		path += fmt.Sprintf(".p/%d", width)
	}
	return "tile/" + level + "/" + path
}

// resources calls put for every tile and entry bundle that a tree of size to
// has and one of size from has not. Their content follows from the records
// alone.
func (l *Ledger) resources(ctx context.Context, from, to int64, put func(key string, body []byte) error) error {
	hashes := l.cfg.Records.Log().Hashes(ctx)
	for _, t := range tlog.NewTiles(tileHeight, from, to) {
		if t.L == 0 {
			body, err := l.bundle(ctx, t)
			if err != nil {
				return err
			}
			if err := put(tilePath("entries", t.N, t.W), body); err != nil {
				return err
			}
		}
		body, err := tlog.ReadTileData(t, hashes)
		if err != nil {
			return fmt.Errorf("tile %d/%d: %w", t.L, t.N, err)
		}
		if err := put(tilePath(fmt.Sprint(t.L), t.N, t.W), body); err != nil {
			return err
		}
	}
	return nil
}

// bundle is the entries under a level-0 tile, each after its length as a
// big-endian uint16 (C2SP tlog-tiles).
func (l *Ledger) bundle(ctx context.Context, t tlog.Tile) ([]byte, error) {
	from := t.N * tileWidth
	leaves, err := l.cfg.Records.Log().Leaves(ctx, from, from+int64(t.W))
	if err != nil {
		return nil, fmt.Errorf("entries %d: %w", t.N, err)
	}
	if len(leaves) != t.W {
		return nil, fmt.Errorf("entries %d: the records have %d leaves, want %d", t.N, len(leaves), t.W)
	}
	var out []byte
	for _, lf := range leaves {
		if len(lf.Body) > math.MaxUint16 {
			return nil, fmt.Errorf("leaf %s has %d bytes, an entry has at most %d", lf.ID, len(lf.Body), math.MaxUint16)
		}
		out = binary.BigEndian.AppendUint16(out, uint16(len(lf.Body)))
		out = append(out, lf.Body...)
	}
	return out, nil
}
