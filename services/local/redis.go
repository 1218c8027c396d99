package local

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
)

// RedisConfig says how Redis is run.
type RedisConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
}

// Redis is a Redis server that works: ours, or an existing one.
type Redis struct {
	// URL is "redis://:password@127.0.0.1:6379/0". It holds the password.
	URL string
	// Address is host:port.
	Address  string
	Password string
	// Process is nil for an existing server.
	*Process
}

func (e *Env) startRedis(ctx context.Context, c RedisConfig) (*Redis, error) {
	bin, err := e.tool("redis-server", PartRedis)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(PartRedis)
	if err != nil {
		return nil, err
	}
	port, err := e.port(c.Port, "Redis", "--redis-port", false)
	if err != nil {
		return nil, err
	}
	password := secret()
	config := filepath.Join(dir, "redis.conf") // not on the command line, where every user sees it
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
	r.Process, err = launch(ctx, spec{
		part: PartRedis, argv: []string{bin, config}, dir: dir, log: e.logFile(PartRedis),
		ports: []Port{port},
		ready: r.check,
	}, e.OnExit)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// check authenticates and pings on a connection of its own. The client library
// would try five times and write its failures to standard error.
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

// redisAnswer is an answer that is not the wanted one.
type redisAnswer string

func (a redisAnswer) Error() string { return string(a) }

// command sends one command as an array of bulk strings and expects a simple
// string: see the RESP specification.
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

// CheckRedis asks an existing server, by URL, for a PONG. The error is an
// *AddressError whose text says what to do and holds no password.
func CheckRedis(ctx context.Context, rawURL string) (*Redis, error) {
	o, err := redis.ParseURL(rawURL)
	if err != nil {
		return nil, &AddressError{Part: PartRedis, Address: redacted(rawURL), Problem: "the address cannot be read: write redis://:PASSWORD@HOST:PORT/0", Err: err}
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
	return nil, &AddressError{Part: PartRedis, Address: redacted(rawURL), Problem: problem, Err: err}
}

// redacted is a URL without its password.
func redacted(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(address that cannot be read)"
	}
	return u.Redacted()
}
