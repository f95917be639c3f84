package main

import "strings"

// address is a record's place in a log. Its offset is one number or two, as Kafka and Redis write
// them; another one is numbered as it is met. Without a pointer, and quick to hash.
type address struct {
	log, partition int32
	kind           offsetKind
	major, minor   uint64
}

type offsetKind int32

const (
	oneNumber offsetKind = iota
	twoNumbers
	otherOffset
)

// offsets numbers the offsets that are neither one number nor two.
type offsets map[string]uint64

func (o offsets) address(log, partition int, offset string) address {
	found := address{log: int32(log), partition: int32(partition)}
	first, second, two := strings.Cut(offset, "-")
	var plain, also bool
	if found.major, plain = decimal(first); plain && !two {
		return found
	}
	if found.minor, also = decimal(second); plain && also {
		found.kind = twoNumbers
		return found
	}
	if o[offset] == 0 {
		o[offset] = uint64(len(o) + 1)
	}
	found.kind, found.major, found.minor = otherOffset, o[offset], 0
	return found
}

// decimal reads digits that are the only way to write their number.
func decimal(text string) (uint64, bool) {
	if text == "" || len(text) > 19 || text[0] == '0' && text != "0" {
		return 0, false
	}
	found := uint64(0)
	for i := 0; i < len(text); i++ {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		found = 10*found + uint64(text[i]-'0')
	}
	return found, true
}
