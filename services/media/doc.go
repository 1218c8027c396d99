// Package media makes real test media with ffmpeg and publishes it into a
// LiveKit room: a moving picture with a burnt-in clock as VP8 and a tone as
// Opus, paced as a camera and a microphone would send them. It is what the
// demo, the tests and the measurements send.
//
// The publisher speaks LiveKit's signalling itself, because the Go SDK only
// takes the ICE servers that the media server names: here a participant uses
// the ones that it was given with its join answer, and may be limited to
// them (relay only).
package media
