package scenario

import "time"

// Scenario is one load test, written in YAML. An unknown key and a value out of
// its bounds are errors, with their line.
type Scenario struct {
	Name string `yaml:"name"`
	// Kind is media (default), api, tunnel or recording.
	Kind   string `yaml:"kind"`
	Target Target `yaml:"target"`
	// Paths of the media: direct, turn-udp, turn-tcp, turn-tls. Several share
	// the same publishers: the subscribers of each room are dealt over them.
	Paths []string `yaml:"paths"`
	// PublishPath is the path that publishers use: one of the paths, "direct"
	// by default.
	PublishPath string `yaml:"publish_path"`
	Rooms       Rooms  `yaml:"rooms"`
	Media       Media  `yaml:"media"`
	// Load sets the population (closed) or the arrivals (open) over time.
	Load     Load     `yaml:"load"`
	Data     *Data    `yaml:"data"`
	Speakers *Speaker `yaml:"speakers"`
	// Witnesses is the share of subscribers, 0 to 1, that decrypt and check all
	// they receive; the others read headers only. At least one per path is a
	// witness unless the share is 0.
	Witnesses float64 `yaml:"witnesses" unit:"share"`
	// BWE is the bandwidth estimation that subscribers offer: none (as LiveKit's Go
	// SDK) or remb.
	BWE string `yaml:"bwe"`
	// NACK enables NACKs for lost packets; true by default.
	NACK *bool `yaml:"nack"`
	// Seed makes random choices repeatable.
	Seed       uint64     `yaml:"seed"`
	Thresholds Thresholds `yaml:"thresholds"`
	Fault      *Fault     `yaml:"fault"`
	API        *API       `yaml:"api"`
	Tunnel     *Tunnel    `yaml:"tunnel"`
	Recording  *Recording `yaml:"recording"`

	// Part is set by [Share]; no file has it.
	Part *Part `yaml:"-"`
	// given has the position of each key that a file or Set gave; defaults do not
	// replace these values, even if they are 0.
	given map[string]place
}

// Target is the system under test: one of Local, API and LiveKit. With none of
// them, it is a running `make up` in this clone, or else Local.
type Target struct {
	// Local starts LiveKit and STUNner for the run, on loopback.
	Local bool `yaml:"local"`
	// API is host:port of relay's gRPC API: rooms and tokens come from there.
	API *APITarget `yaml:"api"`
	// LiveKit is joined with its API keys.
	LiveKit *LiveKit `yaml:"livekit"`
	// Processes are further processes on this host to measure: their names with a
	// pid or the name of a program: {sfu: "livekit-server"}.
	Processes map[string]string `yaml:"processes"`
	// SFUMetrics and TURNMetrics are URLs of Prometheus endpoints, read before and
	// after the run.
	SFUMetrics  string `yaml:"sfu_metrics"`
	TURNMetrics string `yaml:"turn_metrics"`
}

// APITarget is relay's API.
type APITarget struct {
	Address string `yaml:"address"` // host:port
	Org     string `yaml:"org"`
	// TokenEnv is the name of the variable that holds the bearer token,
	// RELAY_TOKEN by default: scenario files never hold tokens.
	TokenEnv string `yaml:"token_env"`
	TLS      bool   `yaml:"tls"`
}

// LiveKit is a LiveKit server and its keys.
type LiveKit struct {
	URL string `yaml:"url"` // ws://, wss://, http:// or https://
	// KeyEnv and SecretEnv name the variables that hold the API key and its
	// secret: LIVEKIT_API_KEY and LIVEKIT_API_SECRET by default.
	KeyEnv    string `yaml:"key_env"`
	SecretEnv string `yaml:"secret_env"`
	// TURN servers, for the paths through TURN; without any, those that LiveKit
	// names are used.
	TURN []TURN `yaml:"turn"`
}

// TURN is a TURN server with static credentials, or with a shared secret from
// which ephemeral ones are made (draft-uberti-behave-turn-rest-00).
type TURN struct {
	URL           string `yaml:"url"` // turn:host:port?transport=udp|tcp, turns:host:port
	Username      string `yaml:"username"`
	CredentialEnv string `yaml:"credential_env"`
	SecretEnv     string `yaml:"secret_env"`
	// CAFile has certificates that are trusted for turns:, besides the
	// system's; Insecure trusts any.
	CAFile   string `yaml:"ca_file"`
	Insecure bool   `yaml:"insecure"`
}

// Rooms sets the number of rooms and of their participants.
type Rooms struct {
	Count       int `yaml:"count"`
	Publishers  int `yaml:"publishers"`  // in each room
	Subscribers int `yaml:"subscribers"` // in each room
	// Subscriptions is how many publishers each subscriber takes; 0: all.
	Subscriptions int `yaml:"subscriptions"`
	// Prefix of the rooms' names; a random part follows.
	Prefix string `yaml:"prefix"`
	// Existing is a room that exists already, with other publishers: Count is then 1
	// and Publishers may be 0.
	Existing string `yaml:"existing"`
}

// Media is what each publisher sends.
type Media struct {
	Video *Video `yaml:"video"` // nil: none
	Audio *Audio `yaml:"audio"` // nil: none
	// Clip is the length of the looped clip, 10 s by default.
	Clip time.Duration `yaml:"clip"`
}

// Video describes the video. ffmpeg encodes the frames once; they are kept in the
// user's cache.
type Video struct {
	Codec   string `yaml:"codec"`                // vp8, vp9, av1, h264
	Width   int    `yaml:"width"`                // pixels, even, 16 to 3840
	Height  int    `yaml:"height"`               // pixels, even, 16 to 2160
	FPS     int    `yaml:"fps"`                  // 1 to 60
	Bitrate int    `yaml:"bitrate" unit:"bit/s"` // bit/s of the highest layer; YAML takes 1.7Mbps, 300kbps
	// Simulcast is the number of layers, 1 to 3, each of half the size of the
	// next (LiveKit's q, h, f).
	Simulcast int `yaml:"simulcast"`
	// SVC is a scalability mode: "" or L1T2, L1T3 (vp8, vp9), L3T3_KEY (vp9)
	// (W3C webrtc-svc).
	SVC string `yaml:"svc"`
	// KeyInterval is the time between key frames, 2 s by default: encoded
	// media cannot answer a PLI before the next one.
	KeyInterval time.Duration `yaml:"key_interval"`
	// Quality is what subscribers ask for: high, medium, low, or mixed.
	Quality string `yaml:"quality"`
}

// Audio is Opus.
type Audio struct {
	Bitrate int `yaml:"bitrate" unit:"bit/s"` // bit/s, 6000 to 256000 (RFC 6716 2.1.1: 6000 is the minimum)
}

// The paths that media may take.
const (
	Direct  = "direct"   // to the SFU's own candidates
	TURNUDP = "turn-udp" // UDP to the TURN server, relayed to the SFU
	TURNTCP = "turn-tcp"
	TURNTLS = "turn-tls"
)

// The load's modes.
const (
	// Closed keeps a population: Stages' targets are shares of the subscribers.
	Closed = "closed"
	// Open makes subscribers arrive at a rate, whatever the population is, each for
	// Stay.
	Open = "open"
)

// Load sets the load over time.
type Load struct {
	Mode string `yaml:"mode"` // closed (default), open
	// Warmup is not measured; Hold is the measured part if there are no stages.
	Warmup time.Duration `yaml:"warmup"`
	Hold   time.Duration `yaml:"hold"`
	// Stages follow each other, as in k6. Between two targets the population or rate
	// changes linearly.
	Stages []Stage `yaml:"stages"`
	// JoinRate bounds joins per second in closed mode, 50 by default; MaxPending
	// bounds joins under way, 200 by default: further joins that are due are dropped
	// in open mode, and wait in closed mode.
	JoinRate   float64 `yaml:"join_rate"`
	MaxPending int     `yaml:"max_pending"`
	// Stay is how long an open-mode subscriber stays, on average
	// (exponentially distributed).
	Stay  time.Duration `yaml:"stay"`
	Churn *Churn        `yaml:"churn"`
}

// Stage is a step of the load: ramp (duration > 0), step or spike (duration 0,
// then a stage that holds).
type Stage struct {
	Duration time.Duration `yaml:"duration"`
	// Target is the number of subscribers in all rooms together (closed), or
	// arrivals per second in all rooms together (open), at the stage's end.
	Target float64 `yaml:"target"`
}

// Churn replaces subscribers.
type Churn struct {
	// HalfLife is the time after which half of the subscribers have been
	// replaced.
	HalfLife time.Duration `yaml:"half_life"`
}

// Data are messages over the data channels, sent by each publisher.
type Data struct {
	Rate     float64 `yaml:"rate"` // messages per second
	Size     int     `yaml:"size"` // bytes, 16 to 15000
	Reliable bool    `yaml:"reliable"`
}

// Speaker makes publishers speak in turn: only Active of each room's
// publishers send audio at a time, and they change every Every.
type Speaker struct {
	Active int           `yaml:"active"`
	Every  time.Duration `yaml:"every"`
}

// Thresholds are the expressions that the result must satisfy, see package judge.
type Thresholds []string

// Fault drops and delays packets in the generator's own sockets, to test how the
// system under test and the loss attribution deal with it.
type Fault struct {
	// Publish is applied to media that publishers send, Receive to media on
	// its way to subscribers.
	Publish Impair `yaml:"publish"`
	Receive Impair `yaml:"receive"`
}

// Impair is what happens to packets in one direction.
type Impair struct {
	Loss  float64       `yaml:"loss" unit:"share"` // share, 0 to 1; YAML takes 1%
	Delay time.Duration `yaml:"delay"`
}

// API is the load of kind api: an open loop of gRPC calls.
type API struct {
	// Rate is calls per second of all methods together, in the shares of Mix.
	Rate float64 `yaml:"rate"`
	// Mix has the share of each of join, create_room, list_rooms, get_room.
	Mix     map[string]float64 `yaml:"mix" unit:"share"`
	Hold    time.Duration      `yaml:"hold"`
	Callers int                `yaml:"callers"` // calls under way at most
}

// Tunnel is the load of kind tunnel: desktop sessions that replay a recorded
// .guac file from a synthetic guacd.
type Tunnel struct {
	Sessions int           `yaml:"sessions"`
	Replay   string        `yaml:"replay"` // a .guac file; "": generated images
	Rate     int           `yaml:"rate"`   // bytes per second of each session; 0: as recorded
	Hold     time.Duration `yaml:"hold"`
}

// Recording is the load of kind recording: rooms are recorded while their
// subscribers watch.
type Recording struct {
	// Share of the rooms that are recorded, 0 to 1; 1 by default.
	Share float64 `yaml:"share" unit:"share"`
}
