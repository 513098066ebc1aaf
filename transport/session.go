package transport

import "crypto/tls"

// newSessions returns a cache of TLS sessions for connections that are made with cfg, or nil if none is to be resumed.
//
// A resumed session stands for the handshake that it came from: the certificate that this client showed then, and the
// checks of the server's that were made then. So the cache is of one Transport and in none of the configurations that leave it: crypto/tls asks a
// cache by the name of the server alone, and who copies the configuration and puts another certificate into it would go on
// as the one before. There is none where a resumed session would go past what the configuration asks for at each handshake:
//
//   - VerifyPeerCertificate is not called for it. (VerifyConnection is, and may be there for something else.)
//   - GetClientCertificate is not called for it, so that a certificate which replaces another one would not be shown.
func newSessions(cfg *tls.Config) tls.ClientSessionCache {
	switch {
	case cfg.SessionTicketsDisabled:
		return nil
	case cfg.ClientSessionCache != nil:
		return cfg.ClientSessionCache // the caller's own, who knows what else it is for
	case cfg.VerifyPeerCertificate != nil, cfg.GetClientCertificate != nil:
		return nil
	default:
		return tls.NewLRUClientSessionCache(0)
	}
}

// secure makes the configurations for the TLS connections of an origin: to its servers, and to its proxy. Transport.mu is held.
func (o *origin) secure() {
	if o.key.scheme == "https" {
		o.tls = o.t.tlsConfig(o.hostname(), o.key.http1)
	}
	if o.proxy != nil && o.proxy.Scheme == "https" {
		o.proxyTLS = o.t.tlsConfig(o.proxy.Hostname(), true)
		o.proxyTLS.NextProtos = []string{"http/1.1"}
	}
}

// tlsConfig returns the configuration for connections to host. mu is held.
func (t *Transport) tlsConfig(host string, onlyHTTP1 bool) *tls.Config {
	cfg := t.cfg.TLS.Clone()
	cfg.ClientSessionCache = t.sessions
	if cfg.ServerName == "" {
		cfg.ServerName = host
	}
	if onlyHTTP1 {
		cfg.NextProtos = nil
	}
	return cfg
}

// forgetSessions has the handshakes from now on resume nothing from before. Those under way, and the connections that are
// open, go on with the cache that they have, so that a ticket which comes late on one of them is forgotten too. mu is held.
func (t *Transport) forgetSessions() {
	t.sessions = newSessions(t.cfg.TLS)
	for _, o := range t.origins {
		o.secure()
	}
}
