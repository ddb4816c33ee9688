"""Who somebody is: passcodes, sessions, limits of tries, forms that are ours."""
