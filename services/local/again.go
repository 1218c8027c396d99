package local

import (
	"context"
	"errors"
	"slices"
)

// pickAgain bounds how often a start is tried again with other ports.
const pickAgain = 5

// again starts a part, and starts it once more with other ports where one
// that was picked for it is taken after all: a process that does not know our
// locks, or one that is just ending, may have it. A port that the caller chose
// is the caller's to change.
func again[T any](chosen []int, start func() (T, error)) (T, error) {
	for i := 1; ; i++ {
		v, err := start()
		var taken *PortTakenError
		if i == pickAgain || !errors.As(err, &taken) || slices.Contains(chosen, taken.Port.Number) {
			return v, err
		}
	}
}

// StartGuacd runs guacd in its own root folder, without privileges, and waits
// until it answers a handshake. Entering the folder needs root.
func (e *Env) StartGuacd(ctx context.Context, c GuacdConfig) (*Guacd, error) {
	return again([]int{c.Port}, func() (*Guacd, error) { return e.startGuacd(ctx, c) })
}

// StartLiveKit runs livekit-server and waits until its API takes its key.
func (e *Env) StartLiveKit(ctx context.Context, c LiveKitConfig) (*LiveKit, error) {
	return again([]int{c.Port, c.UDPPort}, func() (*LiveKit, error) { return e.startLiveKit(ctx, c) })
}

// StartPostgres makes a private cluster where there is none and runs it, with
// fsync as in production. The database and its owner, who is a superuser of
// this cluster, are called relay. PostgreSQL refuses to run as root: root runs
// it as the user postgres, who must be able to enter Env.Dir.
func (e *Env) StartPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	return again([]int{c.Port}, func() (*Postgres, error) { return e.startPostgres(ctx, c) })
}

// StartRedis runs redis-server with a random password and no persistence: what
// it holds is lost when it ends, as the design allows.
func (e *Env) StartRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	return again([]int{c.Port}, func() (*Redis, error) { return e.startRedis(ctx, c) })
}

// StartSSHD runs sshd with a host key and a user key of its own and waits
// until a login works. guacd 1.3's libssh2 needs the RSA keys and the older
// algorithms that are allowed here; the machine's sshd is not touched.
func (e *Env) StartSSHD(ctx context.Context, c SSHDConfig) (*SSHD, error) {
	return again([]int{c.Port}, func() (*SSHD, error) { return e.startSSHD(ctx, c) })
}

// StartSeaweedFS runs `weed server` with its S3 API and waits until a bucket
// can be written and read. Its data outlives the process; the keys are made
// once per folder.
func (e *Env) StartSeaweedFS(ctx context.Context, c SeaweedFSConfig) (*S3, error) {
	return again([]int{c.Port}, func() (*S3, error) { return e.startSeaweedFS(ctx, c) })
}
