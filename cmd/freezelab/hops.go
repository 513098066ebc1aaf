package main

import (
	"time"
)

// hop is something between a function and its downstream, or the downstream itself, that does not keep idle connections for
// ever. The limits are those of docs/lambda.md.
type hop struct {
	Name  string        `json:"name"`
	Title string        `json:"title"` // as in docs/lambda.md
	Limit time.Duration `json:"idle_limit_ns"`
	Fault fault         `json:"fault"` // what becomes of connections that are idle for longer
}

var hops = []hop{
	{"nat", "NAT gateway", 350 * time.Second, faultNAT},
	{"nlb", "Network Load Balancer", 350 * time.Second, faultNAT}, // RST, once something is sent (Elastic Load Balancing, "Connection idle timeout")
	{"firewall", "Network Firewall", 350 * time.Second, faultHole},
	{"alb", "Application Load Balancer", 60 * time.Second, faultFIN},
	{"apigateway", "API Gateway", 310 * time.Second, faultFIN},
	{"cloudfront", "CloudFront to its origin", 5 * time.Second, faultFIN},
	{"cloudflare", "Cloudflare", 400 * time.Second, faultFIN},
	{"google", "Google load balancers", 600 * time.Second, faultFIN},
	{"nginx", "nginx", 75 * time.Second, faultFIN},
	{"node", "Node.js", 5 * time.Second, faultFIN},
	{"gunicorn", "gunicorn", 2 * time.Second, faultFIN},
}

// after is what becomes of a connection that is idle for d.
func (h hop) after(d time.Duration) fault {
	if d > h.Limit {
		return h.Fault
	}
	return faultNone
}

// hopNames are the names of all hops.
func hopNames() []string {
	names := make([]string, len(hops))
	for i, h := range hops {
		names[i] = h.Name
	}
	return names
}
