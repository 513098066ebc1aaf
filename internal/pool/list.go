package pool

// list is a doubly linked list. Each element is a part of what it holds, so that taking one out takes no search, and nothing
// is allocated. The zero value is empty.
type list[T any] struct {
	front, back *elem[T]
	n           int
}

// elem is the place of a T in at most one list.
type elem[T any] struct {
	next, prev *elem[T]
	in         *list[T]
	v          *T
}

// first returns what is at the front, or nil.
func (l *list[T]) first() *T {
	if l.front == nil {
		return nil
	}
	return l.front.v
}

// pushFront puts v, whose place is e, at the front. It leaves the list that it is in.
func (l *list[T]) pushFront(e *elem[T], v *T) {
	e.leave()
	e.v, e.in, e.next = v, l, l.front
	if l.front == nil {
		l.back = e
	} else {
		l.front.prev = e
	}
	l.front = e
	l.n++
}

// pushBack puts v, whose place is e, at the back. It leaves the list that it is in.
func (l *list[T]) pushBack(e *elem[T], v *T) {
	e.leave()
	e.v, e.in, e.prev = v, l, l.back
	if l.back == nil {
		l.front = e
	} else {
		l.back.next = e
	}
	l.back = e
	l.n++
}

// listed reports whether e is in a list.
func (e *elem[T]) listed() bool { return e.in != nil }

// leave takes e out of its list, if it is in one.
func (e *elem[T]) leave() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.front = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.back = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.next, e.prev, e.in = nil, nil, nil
	l.n--
}
