// Package clip makes the media that a load test sends, and says whether what
// arrives is media. A clip is encoded once by a real encoder (ffmpeg; libvpx
// itself for spatial layers), kept in a folder, and cut into RTP payloads when
// it is opened: sending it costs no encoding and no packetising, however many
// publishers loop it.
//
// No stream has B frames or hidden frames: what goes into the encoder comes
// out as one shown frame, in order, so that a clip can be looped by counting
// on. Key frames stand at fixed instants, the same ones in all layers.
package clip
