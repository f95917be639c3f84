package main

import (
	"math"
	"sort"
)

func (s *story) judge() *opinion {
	for _, r := range s.messages {
		s.kept(r)
		s.oneID(r)
		s.sameTime(r)
		for _, b := range r.bodies {
			s.keptInLogs(r, b)
		}
	}
	for _, r := range s.receipts {
		if r.acknowledged && !r.present {
			s.opinion.add(lost, r.key, "an acknowledged receipt")
		}
	}
	s.once()
	s.founded()
	for id, in := range s.conversations {
		s.ordered(id, in)
		for log := range s.names {
			s.orderedInLog(id, in, log)
		}
	}
	s.answers()
	s.buried()
	s.sameBytes()
	s.opinion.Judged["messages"] = len(s.messages)
	s.opinion.Judged["rows"] = len(s.rows)
	s.opinion.Judged["records"] = s.counts[0] + s.counts[1]
	return s.opinion
}

// kept: an acknowledged body is its key's row; or a dead letter, which operators read. (Promises 1
// and 5: of two bodies that raced, the second is a dead letter and never dropped in silence.)
func (s *story) kept(r *request) {
	if r.row == nil {
		if r.acknowledged && !s.hasLetter(r, func(l letter) bool { return l.reason != conflict }) {
			s.opinion.add(lost, r.key, "acknowledged, and neither a row nor a dead letter")
		}
		return
	}
	for _, b := range r.bodies {
		if math.IsInf(b.acked, 1) || r.row.body == b {
			continue
		}
		buried := s.hasLetter(r, func(l letter) bool {
			return l.reason == conflict && l.digest != nil && s.bodies[*l.digest] == b
		})
		if !buried {
			s.opinion.add(lost, r.key, "another body was acknowledged as %s, and is neither the row nor a dead letter", b.id)
		}
	}
}

func (s *story) hasLetter(r *request, fits func(letter) bool) bool {
	for _, id := range r.ids {
		for _, l := range s.letters[id] {
			if fits(l) {
				return true
			}
		}
	}
	return false
}

// keptInLogs: what an ingress acknowledged as new stands in each log that its phase writes first
// (promise 1). A log that remembers ids keeps one of several bodies of a key.
func (s *story) keptInLogs(r *request, b *body) {
	for log, name := range s.names {
		in := b.in[log]
		if !in.asked || in.at > 0 || len(r.bodies) > 1 && s.inLog[log][b.id] {
			continue
		}
		s.opinion.add(lost, r.key, "acknowledged by %s, and not in %s", in.by, name)
	}
}

// oneID: answers, rows and records of a key have one id (promise 4).
func (s *story) oneID(r *request) {
	if len(r.ids) > 1 {
		s.opinion.add(idsChanged, r.key, "%v", r.ids)
	}
}

// sameTime: an answer has the time that a record of its key has (promise 4). There may be several: a
// message whose first answer was lost may be appended again.
func (s *story) sameTime(r *request) {
	for _, told := range r.told {
		if len(r.stand) > 0 && !has(r.stand, told) {
			s.opinion.add(wrong, r.key, "accepted at %s by an answer, and at %v by its records", told, r.stand)
		}
	}
}

// once: no key, id or content has a second row (promise 2).
func (s *story) once() {
	keys, ids, contents := map[string]bool{}, make(map[string]bool, len(s.rows)), map[digest]bool{}
	for _, one := range s.rows {
		again := ids[one.id]
		ids[one.id] = true
		if one.request != nil {
			again = again || one.request.row != one
		} else {
			again = again || keys[one.key]
			keys[one.key] = true
		}
		if one.body != nil {
			again = again || one.body.persisted
			one.body.persisted = true
		} else {
			again = again || contents[one.digest]
			contents[one.digest] = true
		}
		if again {
			s.opinion.add(doubled, one.key, "%s, from %s %d/%s", one.id, one.log, one.partition, one.offset)
		}
	}
}

// founded: each row is what somebody sent and was not refused, and its record is in its log.
func (s *story) founded() {
	for _, one := range s.rows {
		r, b := one.request, one.body
		switch {
		case r == nil:
			s.opinion.add(phantoms, one.key, "a row that nobody sent")
		case b == nil || b.request != r || r.conversation != one.conversation:
			s.opinion.add(phantoms, one.key, "a row with other contents, or in another conversation")
		case !b.possible:
			s.opinion.add(phantoms, one.key, "a row of a body that was refused each time")
		}
		if one.from.log >= 0 && !s.isRecord(one) {
			s.opinion.add(phantoms, one.key, "%s %d/%s is not its record", one.log, one.partition, one.offset)
		}
	}
}

// isRecord: the record that a row names has the row's content.
func (s *story) isRecord(one *row) bool {
	if one.body.firstAt(one.from) {
		return true
	}
	found, there := s.others[one.from]
	return there && found.content && found.digest == one.digest
}

// ordered: no row stands before one whose message was acknowledged before its own was first sent
// (promise 3), and readers of pages see the table's order.
func (s *story) ordered(id string, in *conversation) {
	earliest := math.Inf(1) // acknowledgement, of the rows below
	for i := len(in.rows) - 1; i >= 0; i-- {
		b := in.rows[i].body
		if b == nil || b.request != in.rows[i].request {
			continue
		}
		if b.sent > earliest {
			s.opinion.add(reordered, id, "%s stands before a row that was acknowledged %.3f s before it was sent",
				b.request.key, b.sent-earliest)
		}
		earliest = math.Min(earliest, b.acked)
	}
	if !in.paged {
		return
	}
	same := len(in.page) == len(in.rows)
	for i := 0; same && i < len(in.page); i++ {
		same = in.page[i] == in.rows[i].id
	}
	if !same {
		s.opinion.add(reordered, id, "a reader saw %d messages, and not the table's %d in its order", len(in.page), len(in.rows))
	}
}

// orderedInLog: the same of a log's records, where answers said that both logs have them; and a
// conversation has one partition.
func (s *story) orderedInLog(id string, in *conversation, log int) {
	standing := make([]*body, 0, len(in.bodies))
	for _, b := range in.bodies {
		if b.in[log].at > 0 {
			standing = append(standing, b)
		}
	}
	sort.Slice(standing, func(i, j int) bool { return standing[i].in[log].at < standing[j].in[log].at })
	for _, b := range standing {
		if b.in[log].partition != standing[0].in[log].partition {
			s.opinion.add(reordered, id, "it stands in two partitions of %s", s.names[log])
			return
		}
	}
	earliest := math.Inf(1)
	for i := len(standing) - 1; i >= 0; i-- {
		b := standing[i]
		if b.sent > earliest {
			s.opinion.add(reordered, id, "in %s, %s stands before a record that was acknowledged %.3f s before it was sent",
				s.names[log], b.request.key, b.sent-earliest)
		}
		earliest = math.Min(earliest, b.in[log].appended)
	}
}

// answers: a 422 needs two bodies (promise 5), and a repeat needs an earlier attempt (promise 4).
func (s *story) answers() {
	for _, one := range s.refused {
		if len(one.request.bodies) < 2 {
			s.opinion.add(wrong, one.request.key, "422 by %s, and it has only one body", one.via)
		}
	}
	for _, one := range s.hits {
		// The first is the attempt itself, if it is not a later one.
		if one.request.begun[1] >= one.ended {
			s.opinion.add(wrong, one.request.key, "called a repeat by %s, and nothing was sent before", one.via)
		}
	}
}

// buried: a dead letter is planted poison, or the second body of a key.
func (s *story) buried() {
	several := map[string]bool{}
	for _, r := range s.messages {
		if len(r.bodies) > 1 {
			for _, id := range r.ids {
				several[id] = true
			}
		}
	}
	for id, letters := range s.letters {
		for _, l := range letters {
			planted, was := s.planted[id]
			if !(was && planted == l.reason) && !(l.reason == conflict && several[id]) {
				s.opinion.add(deadLetters, id, "%s", l.reason)
			}
		}
	}
	for id, reason := range s.planted {
		found := false
		for _, l := range s.letters[id] {
			found = found || l.reason == reason
		}
		if !found {
			s.opinion.add(lost, id, "poison that is no dead letter for %s", reason)
		}
	}
}

// sameBytes: a copy is what the record that it names is.
func (s *story) sameBytes() {
	for _, one := range s.copies {
		original, there := recorded{}, one.body.firstAt(one.from)
		if there {
			original.bytes = one.body.in[one.from.log].bytes
		} else {
			original, there = s.others[one.from]
		}
		if !there || original.bytes != one.bytes {
			s.opinion.add(phantoms, one.offset, "a copy of %s, which is not there or has other bytes", one.origin)
		}
	}
}
