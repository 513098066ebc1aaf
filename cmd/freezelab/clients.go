package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/thawhttp/thaw/client"
	"github.com/thawhttp/thaw/retry"
	"github.com/thawhttp/thaw/transport"
)

// clientName is one of the clients compared.
type clientName string

const (
	clientDefault clientName = "default" // http.Client as Go makes it
	clientThaw    clientName = "thaw"
)

var clientNames = []clientName{clientDefault, clientThaw}

// title is the client in the words of the table.
func (n clientName) title() string {
	if n == clientDefault {
		return "http.Client"
	}
	return string(n)
}

// clientSettings say which client to make, and how. They travel from the lab to the function.
type clientSettings struct {
	Client  clientName
	Root    []byte        // PEM: the certificate authority to trust
	Timeout time.Duration // of a request

	// The pool's, for thaw; zero is its default.
	TrustIdle, VerifyAfter, VerifyTimeout time.Duration
}

// newClient makes the client. The default one differs from new(http.Client) in nothing but the certificate
// authority it trusts and the timeout.
func (s clientSettings) newClient() (*http.Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(s.Root) {
		return nil, errors.New("the settings hold no certificate authority")
	}
	trust := &tls.Config{RootCAs: roots}
	switch s.Client {
	case clientDefault:
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig = trust
		return &http.Client{Transport: t, Timeout: s.Timeout}, nil
	case clientThaw:
		c, err := client.New(
			client.WithTimeout(s.Timeout),
			// The lab shows what the pool does. What it failed, a retry might hide.
			client.WithRetry(retry.Policy{MaxAttempts: 1}),
			client.WithTransport(transport.Config{
				TLS:           trust,
				TrustIdle:     s.TrustIdle,
				VerifyAfter:   s.VerifyAfter,
				VerifyTimeout: s.VerifyTimeout,
			}),
		)
		if err != nil {
			return nil, err
		}
		return c.Client, nil
	}
	return nil, fmt.Errorf("no client is called %q", s.Client)
}
