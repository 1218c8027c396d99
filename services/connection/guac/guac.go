// Package guac is the codec of the Guacamole protocol, the text protocol between
// browser, broker and guacd. An instruction is a list of elements,
//
//	LENGTH.VALUE,LENGTH.VALUE,...;
//
// whose lengths count Unicode code points, not bytes or UTF-16 units. A value may
// hold any character, including "," and ";", so the only way to find the end of
// an instruction is to count. The package has an encoder, an incremental scanner
// for instruction boundaries (no allocation, at the speed of memory for ASCII), a
// parser for one complete instruction, the rules for what a browser and guacd may
// send (guacd itself does not check the number of arguments), and the client's
// side of guacd's handshake.
//
// The original implementation is guacamole-server, src/libguac/parser.c,
// user-handlers.c and user-handshake.c; the bounds are those of
// guacamole/parser-constants.h.
package guac

import "errors"

// Bounds of the protocol. Instructions that exceed them are refused in both
// directions.
const (
	// MaxElement is the longest element, in code points
	// (GUAC_INSTRUCTION_MAX_LENGTH).
	MaxElement = 8192
	// MaxDigits is the longest element length, in decimal digits
	// (GUAC_INSTRUCTION_MAX_DIGITS). guacd does not enforce it and overflows.
	MaxDigits = 5
	// MaxElements is the maximum number of elements, including the opcode
	// (GUAC_INSTRUCTION_MAX_ELEMENTS).
	MaxElements = 128
	// MaxInstruction is the longest instruction in bytes, the size of guacd's
	// buffer.
	MaxInstruction = 32768
	// MaxBlob is the maximum number of bytes of one blob before base64
	// (GUAC_PROTOCOL_BLOB_MAX_LENGTH).
	MaxBlob = 6048
)

// The syntax errors of an instruction. They are wrapped in a SyntaxError.
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
	// ErrTerminator: an element is not followed by "," or ";", so its length is
	// wrong.
	ErrTerminator = errors.New("element not followed by a terminator")
	// ErrUTF8: a value is not valid UTF-8.
	ErrUTF8 = errors.New("invalid UTF-8")
	// ErrNUL: a value contains U+0000, which ends a string in guacd.
	ErrNUL = errors.New("NUL in a value")
	// ErrIncomplete: the bytes end inside an instruction, or continue after it.
	ErrIncomplete = errors.New("not exactly one complete instruction")
)

// SyntaxError is a syntax error at a position of a stream. It never holds the
// bytes themselves, which may be keystrokes or secrets.
type SyntaxError struct {
	// Offset is the number of bytes in the stream before the offending one.
	Offset int64
	// Err is one of the errors above.
	Err error
}

func (e *SyntaxError) Error() string { return "guac: " + e.Err.Error() }

// Unwrap returns Err.
func (e *SyntaxError) Unwrap() error { return e.Err }
