package broker

// Abandon takes down what New opened, as a process does that is killed: nothing is written any more that says it was clean.
func (b *Broker) Abandon() { _ = b.close(false) }
