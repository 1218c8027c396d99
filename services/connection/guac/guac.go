// Package guac speaks the Guacamole protocol, the text protocol between a
// browser, a broker and guacd. An instruction is a list of elements,
//
//	LENGTH.VALUE,LENGTH.VALUE,...;
//
// whose lengths count Unicode code points, not bytes and not UTF-16 units. A
// value may hold any character, "," and ";" included, so that the only way to
// find where an instruction ends is to count. The package has an encoder, a
// scanner that finds instruction boundaries incrementally in bytes as they
// come (no allocation, at the speed of memory for ASCII), a parser for one
// complete instruction, the rules for what a browser may send (guacd itself
// does not check how many arguments an instruction has) and for what guacd
// may send, and the client's side of guacd's handshake.
//
// What the original implementation does is in guacamole-server,
// src/libguac/parser.c, user-handlers.c and user-handshake.c; the bounds are
// those of guacamole/parser-constants.h.
package guac

import "errors"

// Bounds of the protocol. What is over them is refused in both directions.
const (
	// MaxElement is the longest element, in code points
	// (GUAC_INSTRUCTION_MAX_LENGTH).
	MaxElement = 8192
	// MaxDigits is the longest element length, in decimal digits
	// (GUAC_INSTRUCTION_MAX_DIGITS). guacd does not enforce it and overflows.
	MaxDigits = 5
	// MaxElements is the most elements an instruction has, opcode included
	// (GUAC_INSTRUCTION_MAX_ELEMENTS).
	MaxElements = 128
	// MaxInstruction is the longest instruction in bytes: guacd's own buffer.
	MaxInstruction = 32768
	// MaxBlob is the most bytes one blob carries before base64
	// (GUAC_PROTOCOL_BLOB_MAX_LENGTH).
	MaxBlob = 6048
)

// What can be wrong with the bytes of an instruction. They come wrapped in a
// SyntaxError.
var (
	// ErrLength: an element does not start with 1 to 5 decimal digits without
	// leading zeros, followed by ".".
	ErrLength = errors.New("malformed element length")
	// ErrElementTooLong: an element has more than MaxElement code points.
	ErrElementTooLong = errors.New("element too long")
	// ErrTooManyElements: an instruction has more than MaxElements.
	ErrTooManyElements = errors.New("too many elements")
	// ErrInstructionTooLong: an instruction has more than MaxInstruction bytes.
	ErrInstructionTooLong = errors.New("instruction too long")
	// ErrTerminator: an element is not followed by "," or ";": its length is
	// a lie.
	ErrTerminator = errors.New("element not followed by a terminator")
	// ErrUTF8: a value is not valid UTF-8.
	ErrUTF8 = errors.New("invalid UTF-8")
	// ErrNUL: a value holds U+0000, which ends a string in guacd.
	ErrNUL = errors.New("NUL in a value")
	// ErrIncomplete: the bytes end inside an instruction, or hold more than
	// the one that was asked for.
	ErrIncomplete = errors.New("not exactly one complete instruction")
)

// SyntaxError says where in a stream the protocol was broken. It never holds
// the bytes themselves: they can be keystrokes or secrets.
type SyntaxError struct {
	// Offset is the number of bytes in the stream before the offending one.
	Offset int64
	// Err is one of the errors above.
	Err error
}

func (e *SyntaxError) Error() string { return "guac: " + e.Err.Error() }

// Unwrap returns the kind of fault.
func (e *SyntaxError) Unwrap() error { return e.Err }
