package transport

import (
	"time"

	"github.com/thawhttp/thaw/internal/pool"
)

// instant is a reading of both clocks.
type instant = pool.Instant

// clock is where the pool reads the time. Tests replace it, to let wall and monotonic time part.
type clock interface{ now() instant }

// processStart is what monotonic readings are relative to.
var processStart = time.Now()

type systemClock struct{}

func (systemClock) now() instant {
	t := time.Now()
	return instant{Wall: t.UnixNano(), Mono: int64(t.Sub(processStart))}
}
