// Package clip makes the media that a load test sends, and checks received media. A
// clip is encoded once by a real encoder (ffmpeg; libvpx itself for spatial layers),
// kept in a folder, and cut into RTP payloads when it is opened: sending it needs
// neither encoding nor packetising, however many publishers loop it.
//
// No stream has B frames or hidden frames: each input picture becomes one shown frame,
// in order, so that a loop only continues the counters. Key frames are at fixed
// instants, the same in all layers.
package clip
