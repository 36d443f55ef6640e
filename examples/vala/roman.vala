// Roman numerals of the arguments, in Vala's POSIX profile.
void main (string[] args) {
    int[] values = { 1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1 };
    string[] numerals = { "M", "CM", "D", "CD", "C", "XC", "L", "XL", "X", "IX", "V", "IV", "I" };
    for (int a = 1; a < args.length; a++) {
        int n = int.parse (args[a]);
        print ("%d = ", n);
        for (int i = 0; i < 13; i++) {
            while (n >= values[i]) {
                print ("%s", numerals[i]);
                n -= values[i];
            }
        }
        print ("\n");
    }
}
