package main

import "fmt"

// The classes of violations, in the order in which they are printed.
const (
	lost        = "lost"
	doubled     = "doubled"
	reordered   = "reordered"
	idsChanged  = "ids changed"
	phantoms    = "phantoms"
	deadLetters = "dead letters without cause"
	wrong       = "wrong answers"
)

var classes = []string{lost, doubled, reordered, idsChanged, phantoms, deadLetters, wrong}

const kept = 20 // findings that are told, of each class

type finding struct {
	Class string `json:"class"`
	Where string `json:"where"`
	Facts string `json:"facts"`
}

// opinion is what the judge says about a history.
type opinion struct {
	Sound    bool           `json:"sound"`
	Verdict  map[string]int `json:"verdict"`
	Judged   map[string]int `json:"judged"`
	Findings []finding      `json:"findings"`
	Seconds  float64        `json:"seconds"`
}

func newOpinion() *opinion {
	made := &opinion{
		Sound: true, Verdict: map[string]int{}, Judged: map[string]int{}, Findings: []finding{},
	}
	for _, class := range classes {
		made.Verdict[class] = 0
	}
	return made
}

func (o *opinion) add(class, where, facts string, values ...any) {
	o.Sound = false
	o.Verdict[class]++
	if o.Verdict[class] <= kept {
		o.Findings = append(o.Findings, finding{class, where, fmt.Sprintf(facts, values...)})
	}
}

func (o *opinion) print(path string) {
	word := "sound"
	if !o.Sound {
		word = "BROKEN"
	}
	fmt.Printf("%s: %s (%.1f s)\n", path, word, o.Seconds)
	for _, what := range []string{"attempts", "messages", "rows", "records"} {
		fmt.Printf("  %10d  %s\n", o.Judged[what], what)
	}
	for _, class := range classes {
		fmt.Printf("  %10d  %s\n", o.Verdict[class], class)
	}
	for _, one := range o.Findings {
		fmt.Printf("  %s [%s] %s\n", one.Class, one.Where, one.Facts)
	}
}
