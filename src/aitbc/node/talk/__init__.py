"""What nodes say to each other, by subject: each file asks, answers and checks one kind of thing."""
