package stack

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/openova-io/bp-relay/services/dev/part"
	"github.com/openova-io/bp-relay/services/dev/process"
)

// SSHDConfig says how sshd is run.
type SSHDConfig struct {
	// Port on 127.0.0.1; 0 picks a free one.
	Port int
}

// SSHD is a private sshd: a real target for guacd. It accepts only the user
// that this process runs as, and only with PrivateKey.
type SSHD struct {
	Host string
	Port int
	User string
	// PrivateKey is PEM, "RSA PRIVATE KEY", as guacd 1.3 reads it.
	PrivateKey string
	// HostKey is the public host key in authorized_keys form.
	HostKey string
	*process.Process
}

// StartSSHD runs sshd with a host key and a user key of its own and waits until
// a login works. guacd 1.3's libssh2 needs RSA keys and the older algorithms
// allowed here. The machine's own sshd is not touched.
func (e *Env) StartSSHD(ctx context.Context, c SSHDConfig) (*SSHD, error) {
	return withFreePorts([]int{c.Port}, func() (*SSHD, error) { return e.startSSHD(ctx, c) })
}

func (e *Env) startSSHD(ctx context.Context, c SSHDConfig) (*SSHD, error) {
	bin, err := e.tool("sshd", part.SSHD)
	if err != nil {
		return nil, err
	}
	dir, err := e.folder(part.SSHD)
	if err != nil {
		return nil, err
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("sshd: find this process's user: %w", err)
	}
	port, err := e.port(c.Port, "SSH", "", false)
	if err != nil {
		return nil, err
	}
	hostKey, _, err := rsaKey(filepath.Join(dir, "host_key"))
	if err != nil {
		return nil, err
	}
	userKey, userPEM, err := rsaKey(filepath.Join(dir, "user_key"))
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		// sshd confines itself there before a login; Debian's service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, fmt.Errorf("sshd: %w", err)
		}
	}
	authorized := filepath.Join(dir, "authorized_keys")
	if err := writeSecret(authorized, ssh.MarshalAuthorizedKey(userKey.PublicKey())); err != nil {
		return nil, err
	}
	// A home of its own: a person's dotfiles must not affect a session. (pyenv,
	// for example, takes a lock at login; if it is killed then, each later login
	// waits a minute.)
	home := filepath.Join(dir, "home")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, fmt.Errorf("sshd: %w", err)
	}
	config := filepath.Join(dir, "sshd_config")
	lines := []string{
		"ListenAddress 127.0.0.1:" + strconv.Itoa(port.Number),
		"HostKey " + filepath.Join(dir, "host_key"),
		"AuthorizedKeysFile " + authorized,
		"AllowUsers " + me.Username,
		"PermitRootLogin prohibit-password",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"StrictModes no", // the folder may be below /tmp
		"UsePAM no",
		"PidFile none",
		"PrintMotd no",
		"PrintLastLog no",
		"UseDNS no",
		"AcceptEnv LANG LC_*",
		"SetEnv HOME=" + home,
		"Subsystem sftp internal-sftp",
		"HostKeyAlgorithms +ssh-rsa",
		"PubkeyAcceptedAlgorithms +ssh-rsa",
		"KexAlgorithms +diffie-hellman-group14-sha1",
		"MACs +hmac-sha1",
	}
	if err := writeSecret(config, []byte(strings.Join(lines, "\n")+"\n")); err != nil {
		return nil, err
	}
	s := &SSHD{
		Host: "127.0.0.1", Port: port.Number, User: me.Username,
		PrivateKey: string(userPEM), HostKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(hostKey.PublicKey()))),
	}
	s.Process, err = e.launch(ctx, part.SSHD, process.Spec{
		Args: []string{bin, "-D", "-e", "-f", config}, Dir: dir,
		Ready: func(ctx context.Context) error { return s.check(ctx, userKey, hostKey) },
	}, port)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// check logs in and opens no session.
func (s *SSHD) check(ctx context.Context, key, host ssh.Signer) error {
	addr := net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if end, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(end); err != nil {
			return err
		}
	}
	cl, _, _, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.FixedHostKey(host.PublicKey()),
	})
	if err != nil {
		return err
	}
	return cl.Close()
}

// rsaKey reads the RSA key in path, or makes it there.
func rsaKey(path string) (ssh.Signer, []byte, error) {
	body, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, nil, fmt.Errorf("make %s: %w", path, err)
		}
		body = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
		if err := writeSecret(path, body); err != nil {
			return nil, nil, err
		}
	} else if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	signer, err := ssh.ParsePrivateKey(body)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return signer, body, nil
}
