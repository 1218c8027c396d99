package capture

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A spool file is a sequence of frames, each written with one system call. The
// header, little endian: length of the payload (4), CRC-32C of all else (4),
// Unix time in nanoseconds (8), kind (1), three zero bytes. A frame that a crash
// cut short, or that the file system filled with zeros, has a wrong checksum:
// the file ends before it.
const headerLen = 20

// Kinds of frames. None is 0, so that zeros are not a frame.
const (
	frameData byte = iota + 1
	frameMark      // JSON of a manifest.Mark without its offset
	frameGap       // JSON of a manifest.Gap
	frameLast      // the stream was closed; no payload
)

// crcTable is read-only: MakeTable returns a shared table that uses hardware
// instructions.
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

// nextFrame returns the frame at the start of b, which shares b's memory, and
// its whole length. ok is false if b does not start with a whole, valid frame.
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

// walkFrames calls fn for each valid frame from the start of b and returns their
// total length, which is less than len(b) if the rest is torn.
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
