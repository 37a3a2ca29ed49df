package metadata

import (
	"strings"
	"sync"
)

// spelling is one way in which a setting may be meant: by a broker setting's
// name, with or without its strata., or by the name of a topic setting.
type spelling struct {
	text   string
	broker string // the broker setting that is right; "": a topic setting without one
	topic  bool   // text is a topic setting's name
	effect bool   // strata acts on it
}

// brokerSpellings has each text once: a name of the broker's goes before one of a topic's.
var brokerSpellings = sync.OnceValue(func() map[string]spelling {
	out := map[string]spelling{}
	for _, s := range TopicSettings() {
		sp := spelling{text: s.Name, topic: true, effect: !s.Ignored}
		if len(s.Synonyms) > 0 {
			sp.broker = s.Synonyms[0]
		}
		out[s.Name] = sp
	}
	for name, s := range brokerIndex() {
		out[name] = spelling{text: name, broker: name, effect: !s.Ignored}
		short := strings.TrimPrefix(name, "strata.")
		if _, taken := out[short]; !taken {
			out[short] = spelling{text: short, broker: name, effect: true}
		}
	}
	return out
})

// didYouMean tells what is right instead of a name that is no broker setting; "" where nothing is near.
func didYouMean(name string) string {
	sp, ok := nearest(name)
	switch {
	case !ok:
		return ""
	case sp.topic && sp.broker == "":
		return "; " + sp.text + " is a setting of topics: strata topic create --config " + sp.text + "=..."
	case sp.topic:
		return "; did you mean " + sp.broker + "? " + sp.text + " is a setting of topics (strata topic create --config " +
			sp.text + "=...), " + sp.broker + " the broker's default for it"
	}
	return "; did you mean " + sp.broker + "?"
}

// didYouMeanVariable is didYouMean for a variable of the environment.
func didYouMeanVariable(variable string) string {
	sp, ok := nearest(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(variable, "STRATA_"), "_", ".")))
	switch {
	case !ok:
		return ""
	case sp.broker == "":
		return "; " + sp.text + " is a setting of topics: strata topic create --config " + sp.text + "=..."
	}
	return "; did you mean " + variableOf(sp.broker) + "?"
}

// didYouMeanTopic is didYouMean for a name that is no topic setting.
func didYouMeanTopic(name string) string {
	best, distance := "", limit(name)+1
	for _, s := range TopicSettings() { // in the order of names: the first of equals
		for _, text := range append([]string{s.Name}, s.Synonyms...) {
			if d := editDistance(name, text, distance); d < distance {
				best, distance = s.Name, d
			}
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// variableOf is the environment variable of a broker setting.
func variableOf(name string) string {
	return "STRATA_" + strings.ToUpper(strings.ReplaceAll(strings.TrimPrefix(name, "strata."), ".", "_"))
}

// nearest finds the spelling with the fewest edits within the limit. Of equals one
// that has an effect goes first, then a broker's, then the first in the alphabet.
func nearest(name string) (spelling, bool) {
	if sp, ok := brokerSpellings()[name]; ok {
		return sp, true
	}
	var best spelling
	distance := limit(name) + 1
	for _, sp := range brokerSpellings() {
		if d := editDistance(name, sp.text, distance+1); d < distance || (d == distance && best.text != "" && sp.before(best)) {
			best, distance = sp, d
		}
	}
	return best, best.text != ""
}

func (s spelling) before(other spelling) bool {
	switch {
	case s.effect != other.effect:
		return s.effect
	case s.topic != other.topic:
		return !s.topic
	}
	return s.text < other.text
}

// limit is how many edits a slip may be: more would suggest what nobody meant.
func limit(name string) int { return max(1, min(4, len(name)/3)) }

// editDistance counts the letters to insert, delete, replace or swap with the next. It may
// stop at most: a name may be as long as a request.
func editDistance(a, b string, most int) int {
	if d := len(a) - len(b); d >= most || -d >= most {
		return most
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			replaced := last[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
