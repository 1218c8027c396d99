package capture

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A spool file is a row of frames, each written with one write(2). Header,
// little endian: length of the payload (4), CRC-32C of everything else (4),
// Unix time in nanoseconds (8), kind (1), three zero bytes. A frame that a
// crash cut short, or that the file system filled with zeros, fails its sum:
// the file ends before it.
const headerLen = 20

// Kinds of frames. There is no kind 0, so that zeros are no frame.
const (
	frameData byte = iota + 1
	frameMark      // JSON of a manifest.Mark without its offset
	frameGap       // JSON of a manifest.Gap
	frameLast      // nothing comes after: no payload
)

// crcTable is read only: MakeTable returns one shared, hardware-backed table.
var crcTable = crc32.MakeTable(crc32.Castagnoli)

type frame struct {
	kind    byte
	at      time.Time
	payload []byte
}

// putHeader fills h (headerLen bytes) for a payload.
func putHeader(h []byte, kind byte, at time.Time, p []byte) {
	binary.LittleEndian.PutUint32(h, uint32(len(p)))
	binary.LittleEndian.PutUint64(h[8:], uint64(at.UnixNano()))
	binary.LittleEndian.PutUint32(h[16:], uint32(kind))
	binary.LittleEndian.PutUint32(h[4:], frameSum(h, p))
}

func frameSum(h, p []byte) uint32 {
	sum := crc32.Update(0, crcTable, h[:4])
	sum = crc32.Update(sum, crcTable, h[8:headerLen])
	return crc32.Update(sum, crcTable, p)
}

// nextFrame returns the frame at the start of b, sharing its memory, and its
// whole length; ok is false where b does not start with a whole, valid one.
func nextFrame(b []byte) (f frame, n int, ok bool) {
	if len(b) < headerLen {
		return frame{}, 0, false
	}
	size := binary.LittleEndian.Uint32(b)
	kind := binary.LittleEndian.Uint32(b[16:])
	if uint64(size) > uint64(len(b)-headerLen) || kind < uint32(frameData) || kind > uint32(frameLast) {
		return frame{}, 0, false
	}
	n = headerLen + int(size)
	p := b[headerLen:n:n]
	if frameSum(b, p) != binary.LittleEndian.Uint32(b[4:]) {
		return frame{}, 0, false
	}
	at := time.Unix(0, int64(binary.LittleEndian.Uint64(b[8:]))).UTC()
	return frame{kind: byte(kind), at: at, payload: p}, n, true
}

// walkFrames calls fn for each valid frame from the start of b and returns
// how many bytes they are: less than len(b) where the rest is torn.
func walkFrames(b []byte, fn func(frame)) int {
	done := 0
	for {
		f, n, ok := nextFrame(b[done:])
		if !ok {
			return done
		}
		fn(f)
		done += n
	}
}
