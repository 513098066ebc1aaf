package retry

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/thawhttp/thaw/internal/legible"
)

// What a retry takes out of the budget, in tokens, and what an answer gives back.
const (
	retryCost   = 5
	timeoutCost = 10 // a timeout kept the downstream busy, and the caller waiting
	answerGives = 1
)

// maxOrigins is how many buckets are kept at a time. A full one is not kept, so only origins that fail count. For another one
// the fullest is forgotten, which is that of the origin that failed least.
const maxOrigins = 1000

// origin is the server that a request is for.
type origin struct{ scheme, host string }

// originOf returns the origin of req. A host that is longer than any can be is cut: it may come from a redirect.
func originOf(req *http.Request) origin {
	return origin{req.URL.Scheme, legible.Text(strings.ToLower(req.URL.Host))}
}

// budget holds a bucket of tokens for each origin. A nil one has no limit.
type budget struct {
	size  int
	short atomic.Int32 // buckets that are not full, so that nobody takes the lock while all are

	mu sync.Mutex
	// left has the tokens of the buckets that are not full. Guarded by mu, and written with short.
	left map[origin]int
}

func newBudget(size int) *budget {
	if size < 0 {
		return nil
	}
	return &budget{size: size, left: make(map[origin]int)}
}

// forget forgets the fullest bucket. mu is held.
func (b *budget) forget() {
	var fullest origin
	most := -1
	for o, left := range b.left {
		if left > most {
			fullest, most = o, left
		}
	}
	delete(b.left, fullest)
}

// take takes so many tokens from the bucket of o, or none and returns false.
func (b *budget) take(o origin, tokens int) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	left, ok := b.left[o]
	if !ok {
		left = b.size
	}
	if left < tokens {
		return false
	}
	if !ok && len(b.left) >= maxOrigins {
		b.forget()
	}
	b.left[o] = left - tokens
	b.short.Store(int32(len(b.left)))
	return true
}

// refund gives back what an answer of o is worth.
func (b *budget) refund(o origin) {
	if b == nil || b.short.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	left, ok := b.left[o]
	if !ok {
		return
	}
	if left += answerGives; left < b.size {
		b.left[o] = left
	} else {
		delete(b.left, o)
	}
	b.short.Store(int32(len(b.left)))
}
