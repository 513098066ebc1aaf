package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
)

// The numbers of SOCKS5 (RFC 1928 and RFC 1929) that a client needs to connect.
const (
	socksVersion      = 5
	socksNoAuth       = 0
	socksPassword     = 2
	socksNoMethod     = 0xff
	socksPasswordV1   = 1
	socksConnectCmd   = 1
	socksAddrIPv4     = 1
	socksAddrName     = 3
	socksAddrIPv6     = 4
	socksMaxLen       = 255
	socksReplyHeadLen = 4
)

// socksConnect has the SOCKS5 proxy at the other end of nc connect it to addr. A name is left to the proxy to resolve.
// golang.org/x/net/proxy does the same, but links 32 KiB.
func socksConnect(nc net.Conn, user *url.Userinfo, addr string) error {
	if err := socksAuthenticate(nc, user); err != nil {
		return err
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("SOCKS5: port %q: want a number up to 65535", portText)
	}
	req := []byte{socksVersion, socksConnectCmd, 0}
	switch ip, err := netip.ParseAddr(host); {
	case err == nil && ip.Unmap().Is4():
		req = append(append(req, socksAddrIPv4), ip.Unmap().AsSlice()...)
	case err == nil:
		req = append(append(req, socksAddrIPv6), ip.WithZone("").AsSlice()...)
	case len(host) > socksMaxLen:
		return fmt.Errorf("SOCKS5: host name of %d bytes: want at most %d", len(host), socksMaxLen)
	default:
		req = append(append(req, socksAddrName, byte(len(host))), host...)
	}
	if _, err := nc.Write(append(req, byte(port>>8), byte(port))); err != nil {
		return err
	}

	var reply [socksReplyHeadLen + socksMaxLen + 3]byte
	if err := socksRead(nc, reply[:socksReplyHeadLen]); err != nil {
		return err
	}
	if code := reply[1]; reply[0] != socksVersion || code != 0 {
		return fmt.Errorf("SOCKS5: the proxy refused to connect to %s: code %d (RFC 1928, section 6)", addr, code)
	}
	// The address that the proxy uses; nobody needs it, but the server's bytes come after it.
	var left int
	switch reply[3] {
	case socksAddrIPv4:
		left = net.IPv4len
	case socksAddrIPv6:
		left = net.IPv6len
	case socksAddrName:
		if err := socksRead(nc, reply[:1]); err != nil {
			return err
		}
		left = int(reply[0])
	default:
		return fmt.Errorf("SOCKS5: the proxy's reply has an address of unknown type %d", reply[3])
	}
	return socksRead(nc, reply[:left+2])
}

// socksRead reads a part of what the proxy says.
func socksRead(nc net.Conn, b []byte) error {
	if _, err := io.ReadFull(nc, b); err != nil {
		return fmt.Errorf("SOCKS5: reading what the proxy says: %w", err)
	}
	return nil
}

// socksAuthenticate agrees on a way to authenticate, and does.
func socksAuthenticate(nc net.Conn, user *url.Userinfo) error {
	hello := []byte{socksVersion, 1, socksNoAuth}
	if user != nil {
		hello = []byte{socksVersion, 2, socksNoAuth, socksPassword}
	}
	if _, err := nc.Write(hello); err != nil {
		return err
	}
	var reply [2]byte
	if err := socksRead(nc, reply[:]); err != nil {
		return err
	}
	switch {
	case reply[0] != socksVersion:
		return fmt.Errorf("SOCKS5: the proxy speaks version %d", reply[0])
	case reply[1] == socksNoAuth:
		return nil
	case reply[1] != socksPassword || user == nil:
		return errors.New("SOCKS5: the proxy accepts no way to authenticate that there are credentials for")
	}
	name := user.Username()
	password, _ := user.Password()
	if len(name) == 0 || len(name) > socksMaxLen || len(password) > socksMaxLen {
		return fmt.Errorf("SOCKS5: want a user name of 1 to %d bytes and a password of at most as many", socksMaxLen)
	}
	b := append([]byte{socksPasswordV1, byte(len(name))}, name...)
	b = append(append(b, byte(len(password))), password...)
	if _, err := nc.Write(b); err != nil {
		return err
	}
	if err := socksRead(nc, reply[:]); err != nil {
		return err
	}
	if reply[1] != 0 {
		return errors.New("SOCKS5: the proxy refused the user name or the password")
	}
	return nil
}
