// Package webm writes one track as a WebM file by appending only: the segment
// and its clusters have unknown sizes, so nothing is patched afterwards. The
// file consists of units (the header; a cluster's start with its first block; a
// block), each written by one Append, and any number of complete units from the
// start is a playable file. A writer that continues the file of a killed process
// begins a new cluster. The format is Matroska (RFC 9559) within the WebM
// guidelines.
package webm

import (
	"errors"
	"fmt"
	"time"
)

// Codec is a Matroska codec id.
type Codec string

// The codecs that can be written.
const (
	VP8  Codec = "V_VP8"
	Opus Codec = "A_OPUS"
)

// ErrTooOld: a frame's time is more than 32 s before the last frame's, so no
// block can hold it.
var ErrTooOld = errors.New("webm: frame is too far in the past")

// Sink takes the units of the file. Append must not keep p, and must write all
// of it or nothing.
type Sink interface {
	Append(p []byte) error
}

// Track describes the one track of a file.
type Track struct {
	Codec Codec
	// Name is shown by players; "" means none.
	Name string
	// Width and Height are those of the first frame, in pixels (video). VP8
	// keyframes carry their size, so a later change needs no new file.
	Width, Height int
	// Channels is 1 or 2 (audio); 0 means 2.
	Channels int
	// PreSkip is the encoder's delay in samples at 48 kHz (Opus, RFC 7845
	// section 4.2). 0 means 312, the value of libopus and browsers.
	PreSkip int
}

// Config sets up a writer.
type Config struct {
	Track Track
	// Start is when the file's timestamps are 0: the recording's start. It
	// becomes the file's DateUTC.
	Start time.Time
	// Continue omits the header: the sink has it and some clusters.
	Continue bool
	// MaxCluster bounds a cluster that no keyframe ends. 0 means 1 s; it is capped
	// at 30 s, because a block's offset is an int16 of ms.
	MaxCluster time.Duration
}

// Writer writes one track. It is not safe for concurrent use.
type Writer struct {
	sink    Sink
	max     int64 // ms
	video   bool
	cluster int64 // the open cluster's timestamp in ms, -1 before the first
	last    int64 // the last block's timestamp in ms
	buf     []byte
}

// New writes the header, unless it continues a file.
func New(sink Sink, cfg Config) (*Writer, error) {
	if cfg.MaxCluster <= 0 {
		cfg.MaxCluster = time.Second
	}
	w := &Writer{
		sink:    sink,
		max:     min(cfg.MaxCluster, 30*time.Second).Milliseconds(),
		video:   cfg.Track.Codec == VP8,
		cluster: -1,
		last:    -1,
	}
	if cfg.Continue {
		return w, nil
	}
	header, err := Header(cfg.Track, cfg.Start)
	if err != nil {
		return nil, err
	}
	if err := sink.Append(header); err != nil {
		return nil, fmt.Errorf("write header: %w", err)
	}
	return w, nil
}

// Write appends one frame at ts after the recording's start, in milliseconds.
// Frames must be in the order of their timestamps: one that is not later than
// the last is written 1 ms after it (a corrected clock may step back), and one
// more than 32 s earlier fails with ErrTooOld. A video keyframe begins a cluster,
// as does any frame once the cluster is MaxCluster long. After
// an error of the sink the next frame can be written. Write does not allocate once
// its buffer has grown to the largest frame.
func (w *Writer) Write(ts time.Duration, key bool, frame []byte) error {
	ms := ts.Milliseconds()
	if w.last-ms > 32000 {
		return fmt.Errorf("%w: %v, the last one is at %v", ErrTooOld, ts, time.Duration(w.last)*time.Millisecond)
	}
	ms = max(ms, w.last+1) // players reject two frames with one timestamp
	b, cluster := w.buf[:0], w.cluster
	if w.cluster < 0 || (key && w.video) || ms-w.cluster >= w.max {
		b = appendUint(appendUnknown(b, idCluster), idTimestamp, uint64(ms))
		w.cluster = ms
	}
	rel := ms - w.cluster // < max, fits int16
	flags := byte(0)
	if key || !w.video {
		flags = 0x80
	}
	b = appendSize(appendID(b, idSimpleBlock), uint64(len(frame)+4))
	b = append(b, 0x81, byte(rel>>8), byte(rel), flags) // track 1, no lacing
	b = append(b, frame...)
	w.buf = b
	if err := w.sink.Append(b); err != nil {
		w.cluster = cluster // a cluster that was not written holds no later block
		return fmt.Errorf("write block: %w", err)
	}
	w.last = ms
	return nil
}

// Last is the timestamp of the last block; -1 ms if there is none.
func (w *Writer) Last() time.Duration { return time.Duration(w.last) * time.Millisecond }

// Header returns a file's first unit: the EBML header, the start of the
// segment, its information and its track.
func Header(t Track, start time.Time) ([]byte, error) {
	entry := appendUint(nil, idTrackNumber, 1)
	entry = appendUint(entry, idTrackUID, 1)
	entry = appendUint(entry, idFlagLacing, 0)
	entry = appendString(entry, idLanguage, "und")
	if t.Name != "" {
		entry = appendString(entry, idName, t.Name)
	}
	entry = appendString(entry, idCodecID, string(t.Codec))
	switch t.Codec {
	case VP8:
		if t.Width <= 0 || t.Height <= 0 || t.Width > 16383 || t.Height > 16383 {
			return nil, fmt.Errorf("webm: video size %dx%d: want 1 to 16383 (VP8)", t.Width, t.Height)
		}
		entry = appendUint(entry, idTrackType, 1)
		video := appendUint(nil, idPixelWidth, uint64(t.Width))
		video = appendUint(video, idPixelHeight, uint64(t.Height))
		entry = appendBytes(entry, idVideo, video)
	case Opus:
		entry = appendUint(entry, idTrackType, 2)
		entry = appendOpus(entry, t)
	default:
		return nil, fmt.Errorf("webm: codec %q is not supported", t.Codec)
	}

	ebml := appendUint(nil, idEBMLVersion, 1)
	ebml = appendUint(ebml, idEBMLReadVersion, 1)
	ebml = appendUint(ebml, idEBMLMaxIDLength, 4)
	ebml = appendUint(ebml, idEBMLMaxSizeLength, 8)
	ebml = appendString(ebml, idDocType, "webm")
	ebml = appendUint(ebml, idDocTypeVersion, 4)
	ebml = appendUint(ebml, idDocTypeReadVersion, 2)

	info := appendUint(nil, idTimestampScale, uint64(time.Millisecond))
	if !start.IsZero() {
		// Nanoseconds since 2001-01-01 (RFC 8794 section 7.6).
		since := start.Sub(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC))
		info = appendSize(appendID(info, idDateUTC), 8)
		for i := 7; i >= 0; i-- {
			info = append(info, byte(uint64(since)>>(8*i)))
		}
	}
	info = appendString(info, idMuxingApp, "bp-relay")
	info = appendString(info, idWritingApp, "bp-relay")

	out := appendBytes(nil, idEBML, ebml)
	out = appendUnknown(out, idSegment)
	out = appendBytes(out, idInfo, info)
	return appendBytes(out, idTracks, appendBytes(nil, idTrackEntry, entry)), nil
}

// appendOpus appends what WebM requires of an Opus track: OpusHead (RFC 7845
// §5.1) as codec private, the encoder's delay, and the 80 ms that a decoder needs
// to converge after a seek.
func appendOpus(entry []byte, t Track) []byte {
	channels, skip := t.Channels, t.PreSkip
	if channels == 0 {
		channels = 2
	}
	if skip == 0 {
		skip = 312
	}
	head := append([]byte("OpusHead"), 1, byte(channels), byte(skip), byte(skip>>8))
	head = append(head, 0x80, 0xBB, 0, 0) // 48000, little endian
	head = append(head, 0, 0, 0)          // no gain, mapping family 0
	entry = appendBytes(entry, idCodecPrivate, head)
	entry = appendUint(entry, idCodecDelay, uint64(skip)*uint64(time.Second)/48000)
	entry = appendUint(entry, idSeekPreRoll, uint64(80*time.Millisecond))
	audio := appendFloat(nil, idSamplingFrequency, 48000)
	audio = appendUint(audio, idChannels, uint64(channels))
	return appendBytes(entry, idAudio, audio)
}
