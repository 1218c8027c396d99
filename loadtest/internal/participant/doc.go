// Package participant is the load generator's own layer on package rtc: publishers
// that send clips on a schedule, so that every packet can be accounted for.
//
// A [Publisher] stamps each packet (flow.Stamp), keeps what it needs to resend it, and
// counts what LiveKit reports about it. One [Pacer] sends the frames of many
// publishers when they are due. A subscriber of a load test is an rtc.Subscriber
// whose socket.Sink counts (package flow).
package participant
