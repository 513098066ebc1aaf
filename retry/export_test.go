package retry

import "time"

// DrainTime is what discarding an answer may take.
const DrainTime = drainTime

// Patience is what it may take in tests: a busy machine may need longer than DrainTime to send an answer to itself.
const Patience = 10 * time.Second

func init() { patience = Patience }
