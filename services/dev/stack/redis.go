package stack

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// RedisConfig says how Redis is run.
type RedisConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
}

// Redis is a Redis server that works, started here or existing.
type Redis struct {
	// URL is "redis://:password@127.0.0.1:6379/0". It holds the password.
	URL string
	// Address is host:port.
	Address  string
	Password string
	// Process is nil for an existing server.
	*process.Process
}

// StartRedis runs redis-server with a random password and no persistence: what
// it holds is lost when it stops, as the design allows.
func (e *Env) StartRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	return withFreePorts([]int{c.Port}, func() (*Redis, error) { return e.startRedis(ctx, c) })
}

func (e *Env) startRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	bin, err := e.tool("redis-server", part.Redis)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(part.Redis)
	if err != nil {
		return nil, err
	}
	port, err := e.port(c.Port, "Redis", "--redis-port", false)
	if err != nil {
		return nil, err
	}
	password := secret()
	config := filepath.Join(dir, "redis.conf") // every user could read the password on the command line
	lines := []string{
		"bind 127.0.0.1", "port " + strconv.Itoa(port.Number), "requirepass " + password,
		`save ""`, "appendonly no", "daemonize no", "dir " + strconv.Quote(dir),
	}
	if err := writeSecret(config, []byte(strings.Join(lines, "\n")+"\n")); err != nil {
		return nil, err
	}
	r := &Redis{
		URL:     fmt.Sprintf("redis://:%s@127.0.0.1:%d/0", password, port.Number),
		Address: fmt.Sprintf("127.0.0.1:%d", port.Number), Password: password,
	}
	r.Process, err = e.launch(ctx, part.Redis, process.Spec{
		Args: []string{bin, config}, Dir: dir,
		Ready: r.check,
	}, port)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// check authenticates and pings on a connection of its own. The client library
// would retry five times and write its failures to standard error.
func (r *Redis) check(ctx context.Context) error {
	o, err := redis.ParseURL(r.URL)
	if err != nil {
		return err
	}
	var conn net.Conn
	if o.TLSConfig != nil {
		conn, err = (&tls.Dialer{Config: o.TLSConfig}).DialContext(ctx, "tcp", o.Addr)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", o.Addr)
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	in := bufio.NewReader(conn)
	if o.Password != "" {
		words := []string{"AUTH", o.Password}
		if o.Username != "" {
			words = []string{"AUTH", o.Username, o.Password}
		}
		if err := command(conn, in, "+OK", words...); err != nil {
			return err
		}
	}
	return command(conn, in, "+PONG", "PING")
}

// redisAnswer is an answer other than the expected one.
type redisAnswer string

func (a redisAnswer) Error() string { return string(a) }

// command sends one command as an array of bulk strings and expects the simple
// string want (RESP specification).
func command(w io.Writer, in *bufio.Reader, want string, words ...string) error {
	msg := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		msg = fmt.Appendf(msg, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if line = strings.TrimSpace(line); line != want {
		return redisAnswer(strings.TrimPrefix(line, "-"))
	}
	return nil
}

// CheckRedis pings an existing server by URL, within 10 s. The error is an
// *[AddressError] that says what to do and holds no password.
func CheckRedis(ctx context.Context, rawURL string) (*Redis, error) {
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, &AddressError{Part: part.Redis, Address: redacted(rawURL), Problem: "want redis://:PASSWORD@HOST:PORT/0", Err: err}
	}
	r := &Redis{URL: rawURL, Address: o.Addr, Password: o.Password}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = r.check(ctx)
	if err == nil {
		return r, nil
	}
	problem := unreachable(err)
	if answer, ok := errors.AsType[redisAnswer](err); ok {
		switch msg := string(answer); {
		case strings.HasPrefix(msg, "WRONGPASS"), strings.HasPrefix(msg, "NOAUTH"), strings.HasPrefix(msg, "ERR AUTH"):
			problem = "it refuses the password: check the user and the password in the address"
		default:
			problem = "it answers " + msg
		}
	}
	return nil, &AddressError{Part: part.Redis, Address: redacted(rawURL), Problem: problem, Err: err}
}

// redacted returns a URL without its password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(malformed address)"
	}
	return u.Redacted()
}
