// Command bench-guac runs github.com/wwt/guac's WebSocket server, configured as
// in its own example program (cmd/guac) but quiet and on a free loopback port:
// a baseline for make bench. It prints its address as {"value": "host:port"},
// connects every session to the guacd named by its argument, and exits when its
// standard input ends.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"github.com/sirupsen/logrus"
	"github.com/wwt/guac"
)

func main() {
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-guac:", err)
		os.Exit(1)
	}
}

func run(guacd string) error {
	logrus.SetLevel(logrus.ErrorLevel)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: guac.NewWebsocketServer(func(*http.Request) (guac.Tunnel, error) { return open(guacd) })}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]string{"value": lis.Addr().String()}); err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(lis); err != http.ErrServerClosed {
		return err
	}
	return nil
}

func open(guacd string) (guac.Tunnel, error) {
	conn, err := net.Dial("tcp", guacd)
	if err != nil {
		return nil, err
	}
	stream := guac.NewStream(conn, guac.SocketTimeout)
	config := guac.NewGuacamoleConfiguration()
	config.Protocol = "vnc"
	if err := stream.Handshake(config); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return guac.NewSimpleTunnel(stream), nil
}
