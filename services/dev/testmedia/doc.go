// Package testmedia makes test media with ffmpeg and publishes it in a LiveKit
// room: a moving picture with a burnt-in clock as VP8, and a tone as Opus, paced as
// a camera and a microphone would send them. The demo, the tests and the
// measurements use it.
//
// The publisher implements LiveKit's signalling itself. LiveKit's Go SDK uses only
// the ICE servers that LiveKit names, but here a participant uses those of its join
// answer, and can be limited to them (relay only).
package testmedia
