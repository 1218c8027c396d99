package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// PostgresConfig says how PostgreSQL is run.
type PostgresConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
	// Settings are more server settings, as for `postgres -c`.
	Settings map[string]string
}

// Postgres is a PostgreSQL server that works, started here or existing.
type Postgres struct {
	// URL is "postgres://relay:password@127.0.0.1:5432/relay?sslmode=disable".
	// It holds the password.
	URL string
	// Process is nil for an existing server.
	*process.Process
}

// StartPostgres makes a private cluster if there is none and runs it, with fsync
// as in production. The database and its owner, a superuser of this cluster,
// are called relay. PostgreSQL refuses to run as root: root runs it as the user
// postgres, for whom Env.Dir is opened so far that its folders can be entered by
// name (mode 0711); the other folders below stay closed.
func (e *Env) StartPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	return withFreePorts([]int{c.Port}, func() (*Postgres, error) { return e.startPostgres(ctx, c) })
}

func (e *Env) startPostgres(ctx context.Context, c PostgresConfig) (*Postgres, error) {
	server, err := e.tool("postgres", part.Postgres)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(part.Postgres)
	if err != nil {
		return nil, err
	}
	cred, err := e.postgresUser(dir)
	if err != nil {
		return nil, err
	}
	password, err := keepJSON(filepath.Join(dir, "password.json"), func() (string, error) { return secret(), nil })
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		if err := e.initdb(ctx, dir, data, password, cred); err != nil {
			return nil, err
		}
	}
	port, err := e.port(c.Port, "PostgreSQL", "--postgres-port", false)
	if err != nil {
		return nil, err
	}
	argv := []string{server, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(port.Number), "-k", "", "-c", "fsync=on"}
	if sock := filepath.Join(dir, ".s.PGSQL.65535"); len(sock) < 108 {
		argv[8] = dir
	}
	for k, v := range c.Settings {
		argv = append(argv, "-c", k+"="+v)
	}
	p := &Postgres{URL: fmt.Sprintf("postgres://relay:%s@127.0.0.1:%d/relay?sslmode=disable", password, port.Number)}
	p.Process, err = e.launch(ctx, part.Postgres, process.Spec{
		Args: argv, Dir: dir, Credential: cred,
		Ready:  p.check,
		Signal: syscall.SIGINT, // "fast": ends sessions, then shuts down cleanly
		Grace:  20 * time.Second,
	}, port)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// initdb makes the cluster in another folder and renames it, so that a cluster
// that exists is complete.
func (e *Env) initdb(ctx context.Context, dir, data, password string, cred *syscall.Credential) error {
	initdb, err := e.tool("initdb", part.Postgres)
	if err != nil {
		return err
	}
	pw := filepath.Join(dir, "initdb-password")
	if err := writeSecret(pw, []byte(password+"\n")); err != nil {
		return err
	}
	defer func() { _ = os.Remove(pw) }()
	if cred != nil {
		if err := os.Chown(pw, int(cred.Uid), int(cred.Gid)); err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
	}
	fresh := data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	cmd := exec.CommandContext(ctx, initdb, "-D", fresh, "-U", "relay", "--pwfile="+pw, "-A", "scram-sha-256",
		"-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if _, err := process.Output(ctx, cmd); err != nil {
		return fmt.Errorf("postgres: make its cluster: %w", err)
	}
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}

// postgresUser gives the folder to the user that PostgreSQL must run as, and
// returns that user; nil if this process is not root.
func (e *Env) postgresUser(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("postgres: it refuses to run as root, and there is no user postgres: %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("postgres: user id %q: %w", u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("postgres: group id %q: %w", u.Gid, err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, fmt.Errorf("postgres: give it its folder: %w", err)
	}
	if st, err := os.Stat(e.Dir); err == nil && st.Mode().Perm()&0o001 == 0 {
		if err := os.Chmod(e.Dir, st.Mode().Perm()|0o011); err != nil {
			return nil, fmt.Errorf("postgres: let its user enter: %w", err)
		}
	}
	for up := filepath.Dir(dir); up != "/"; up = filepath.Dir(up) {
		if st, err := os.Stat(up); err == nil && st.Mode().Perm()&0o001 == 0 {
			return nil, fmt.Errorf("postgres: the user postgres cannot enter %s: choose a folder that others may enter, or do not run as root", up)
		}
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// check connects, and creates the database relay if it is missing: initdb
// creates only the database postgres.
func (p *Postgres) check(ctx context.Context) error {
	err := ping(ctx, p.URL)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "3D000" { // invalid_catalog_name
		return err
	}
	conn, err := pgx.Connect(ctx, strings.Replace(p.URL, "/relay?", "/postgres?", 1))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "CREATE DATABASE relay"); err != nil {
		return fmt.Errorf("make the database: %w", err)
	}
	return ping(ctx, p.URL)
}

func ping(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	return conn.Ping(ctx)
}

// CheckPostgres connects to an existing server by URL, within 10 s. The error is
// an *[AddressError] that says what to do and holds no password.
func CheckPostgres(ctx context.Context, rawURL string) (*Postgres, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err := ping(ctx, rawURL)
	if err == nil {
		return &Postgres{URL: rawURL}, nil
	}
	problem := unreachable(err)
	var pe *pgconn.PgError
	var parse *pgconn.ParseConfigError
	switch {
	case errors.As(err, &parse):
		problem = "want postgres://USER:PASSWORD@HOST:PORT/DATABASE"
	case errors.As(err, &pe) && (pe.Code == "28P01" || pe.Code == "28000"): // invalid_password, invalid_authorization
		problem = "it refuses the user or the password: check both in the address"
	case errors.As(err, &pe) && pe.Code == "3D000":
		problem = "it has no such database: create it first (" + pe.Message + ")"
	case errors.As(err, &pe):
		problem = fmt.Sprintf("it answers %s (%s)", pe.Message, pe.Code)
	}
	return nil, &AddressError{Part: part.Postgres, Address: redacted(rawURL), Problem: problem, Err: err}
}
