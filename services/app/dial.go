package app

import (
	"crypto/tls"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// dialAPI connects a command to an API: "https://host:port" with TLS and the
// system's CAs (or those of SSL_CERT_FILE), "http://host:port" without, and
// "host:port" without TLS only on loopback, because a token goes with each call.
func dialAPI(api string) (*grpc.ClientConn, error) {
	address, secure := strings.CutPrefix(api, "https://")
	address, plaintext := strings.CutPrefix(address, "http://")
	address = strings.TrimSuffix(address, "/")
	var transport credentials.TransportCredentials
	switch {
	case secure:
		transport = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})
	case plaintext || onLoopback(address):
		transport = insecure.NewCredentials()
	default:
		return nil, fmt.Errorf("--api: %s is not on this machine, and the token would be readable on the way: write https://%s, or http://%s if a proxy or a mesh encrypts", address, address, address)
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", api, err)
	}
	return conn, nil
}
