package webm

import (
	"encoding/binary"
	"math"
)

// Element ids of RFC 8794 (EBML) and RFC 9559 (Matroska) as in the file, length
// marker included.
const (
	idEBML               = 0x1A45DFA3
	idEBMLVersion        = 0x4286
	idEBMLReadVersion    = 0x42F7
	idEBMLMaxIDLength    = 0x42F2
	idEBMLMaxSizeLength  = 0x42F3
	idDocType            = 0x4282
	idDocTypeVersion     = 0x4287
	idDocTypeReadVersion = 0x4285
	idSegment            = 0x18538067
	idInfo               = 0x1549A966
	idTimestampScale     = 0x2AD7B1
	idDateUTC            = 0x4461
	idMuxingApp          = 0x4D80
	idWritingApp         = 0x5741
	idTracks             = 0x1654AE6B
	idTrackEntry         = 0xAE
	idTrackNumber        = 0xD7
	idTrackUID           = 0x73C5
	idTrackType          = 0x83
	idFlagLacing         = 0x9C
	idLanguage           = 0x22B59C
	idName               = 0x536E
	idCodecID            = 0x86
	idCodecPrivate       = 0x63A2
	idCodecDelay         = 0x56AA
	idSeekPreRoll        = 0x56BB
	idVideo              = 0xE0
	idPixelWidth         = 0xB0
	idPixelHeight        = 0xBA
	idAudio              = 0xE1
	idSamplingFrequency  = 0xB5
	idChannels           = 0x9F
	idCluster            = 0x1F43B675
	idTimestamp          = 0xE7
	idSimpleBlock        = 0xA3
)

// unknownSize is a data size of eight bytes with all value bits set: the element
// ends where one begins that cannot be its child (RFC 8794 §6.2). This makes the
// file appendable.
const unknownSize = 0x01FFFFFFFFFFFFFF

// appendID appends an element id.
func appendID(b []byte, id uint32) []byte {
	switch {
	case id > 0xFFFFFF:
		return append(b, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	case id > 0xFFFF:
		return append(b, byte(id>>16), byte(id>>8), byte(id))
	case id > 0xFF:
		return append(b, byte(id>>8), byte(id))
	}
	return append(b, byte(id))
}

// appendSize appends a data size as the shortest variable-size integer
// (RFC 8794 section 4); all-ones values are reserved and take a longer form.
func appendSize(b []byte, n uint64) []byte {
	width := 1
	for width < 8 && n >= 1<<(7*width)-1 {
		width++
	}
	n |= 1 << (7 * width)
	for i := width - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

func appendUint(b []byte, id uint32, v uint64) []byte {
	width := 1
	for width < 8 && v >= 1<<(8*width) {
		width++
	}
	b = appendSize(appendID(b, id), uint64(width))
	for i := width - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

func appendFloat(b []byte, id uint32, v float64) []byte {
	return binary.BigEndian.AppendUint64(appendSize(appendID(b, id), 8), math.Float64bits(v))
}

func appendString(b []byte, id uint32, v string) []byte {
	return append(appendSize(appendID(b, id), uint64(len(v))), v...)
}

func appendBytes(b []byte, id uint32, v []byte) []byte {
	return append(appendSize(appendID(b, id), uint64(len(v))), v...)
}

func appendUnknown(b []byte, id uint32) []byte {
	return binary.BigEndian.AppendUint64(appendID(b, id), unknownSize)
}
