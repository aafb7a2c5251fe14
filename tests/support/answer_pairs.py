"""Pairs of answer and reference answer with the right verdict, by what makes them hard. Written for this project."""

RIGHT: dict[str, list[tuple[str, str]]] = {
    "numbers": [
        ("5", "5"), ("+5", "5"), ("025", "25"), ("25", "025"), ("142", "142.0"), ("-3", "- 3"), ("0", "-0"),
        ("5.", "5"),
        (".5", "0.5"), ("0.50", "1/2"), ("1/2", r"\frac12"), (r"\dfrac{3}{4}", "0.75"), (r"\tfrac34", r"\frac{6}{8}"),
        (r"-\frac{3}{8}", r"\frac{-3}{8}"), ("0.333333", "1/3"), (r"\frac9{19}", r"\frac{9}{19}"), ("3.14159", r"\pi"),
        ("−7", "-7"), (".35625", "0.35625"), (r"-\frac{1}{2}", r"\frac{1}{-2}"), ("$42$", "42"), (r"\(42\)", "42"),
        ("42.", "42"), (r"\frac{3}{2}", "1.5"), ("½", "0.5"), (r"{42}", "42"),
    ],
    "thousands separators": [
        ("1,234", "1234"), ("10080", r"10,\!080"), ("58500", "58,500"), (r"11{,}111", "11111"),
        (r"1\,000\,000", "1000000"),
        (r"11,\! 111,\! 111,\! 100", "11111111100"), ("1,234.5", "1234.5"), ("100, 200, 300", "100,200,300"),
    ],
    "scientific notation": [
        ("1.2e-27", r"1.2 \times 10^{-27}"), (r"1.2\cdot10^{-27}", "1.2e-27"), ("1.2*10^-27", "1.2e-27"),
        ("1.2 × 10⁻²⁷", r"1.2 \times 10^{-27}"), ("1.2E-27", "1.2e-27"), ("12e-28", "1.2e-27"),
        ("3300000000000", "3.3e12"),
        (r"10^{-3}", "0.001"), (r"4 \times 10^{33}", "4e33"), ("1.2x10^{5}", "120000"),
        ("0.00531", r"5.31 \times 10^{-3}"),
        (r"1.39 \times 10^9", r"1.39 \times 10^{9}"), ("1.2e-27", "1.2000001e-27"),
    ],
    "percent": [
        ("50%", "50"), (r"50\%", "0.5"), ("50", r"50\%"), ("0.5", "50%"), ("50 percent", "50%"), (r"12.5\%", "1/8"),
    ],
    "degrees": [
        (r"120^\circ", "120"), ("120", r"120^{\circ}"), ("120°", r"120^\circ"), ("120 degrees", r"120^\circ"),
        (r"\frac{270}{7}", r"\frac{270}7\text{ degrees}"), (r"41.8^{\circ}", r"41.8^\circ"),
        ("1950", r"1950^\circ C"), ("0.003", r"0.003^{\prime \prime}"),
    ],
    "currency": [
        (r"\$32,348", r"\$32,\!348"), ("32348", r"\$32,\!348"), ("$18.90", "18.90"), ("18.9 dollars", r"\$18.90"),
    ],
    "units": [
        ("5 cm", "5"), ("5", r"5\text{ cm}"), ("5 cm", r"5\text{ centimeters}"),
        (r"12 \text{ in}^2", "12 square inches"),
        (r"3\sqrt{2}\text{ m}", r"3\sqrt{2}"), (r"15000 \text{ kcal m}^{-2} \text{yr}^{-1}", "15000"),
        ("10 students", "10"),
        (r"6\,\mathrm{m}", "6"), (r"2.5\text{ hours}", "2.5 hr"), ("8 units", "8"),
        (r"10 \mathrm{~m/s}", r"10\text{ m/s}"),
    ],
    "ordinals": [("5th", "5"), (r"21^{\text{st}}", "21"), ("3rd", "3"), (r"4^{th}", "4")],
    "mixed numbers": [
        (r"137 \frac{1}{2}", "137.5"), ("275/2", r"137 \frac{1}{2}"), ("1 1/2", "1.5"), (r"-2\frac{1}{4}", "-2.25"),
    ],
    "points, sets and lists": [
        ("(1,2)", "(1, 2)"), (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"), ("2,1", "1,2"),
        (r"\{1,2\}", r"\{2, 1\}"),
        (r"\{2,1\}", "1,2"), ("1, 2 and 3", "3,2,1"), ("8, 4", "$8$,$4$"), ("(6,31,-1)", "(6, 31, -1)"),
        ("[1,2,3]", "(1,2,3)"),
        ("(8,18), (2,32)", "(2,32), (8,18)"), (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"), (r"\pm 3", "3,-3"),
        (r"3 - 2\sqrt2, 3+2\sqrt2", r"3 \pm 2 \sqrt{2}"), (r"5\text{ and }-2", "$5,-2$"), (r"\{5\}", "5"),
        (r"\frac12 \text{ or } 2", "2, 0.5"),
        (r"\sqrt{2}-1, \frac{3-\sqrt 2}{7}", r"$\frac{3-\sqrt{2}}{7}$,$\sqrt{2}-1$"), ("(1,2)", "1,2"),
    ],
    "assignments": [
        ("5", "x=5"), ("x = 5", "5"), ("a = -2, b = -2", "-2,-2"), ("-2,-2", "a = -2, b = -2"), ("b=3, a=1", "a=1,b=3"),
        ("k = 3", "$k=3$"), (r"M=\frac{9\sqrt2}{32}", r"$M=\frac{9}{32} \sqrt{2}$"), ("(x,y)=(1,2)", "(1,2)"),
        ("f(n)=n", "n"),
        (r"x=\frac13\approx 0.33", "1/3"), ("x=1 or x=2", "2,1"), ("x=2, x=1", "1,2"), ("y = 2x+3", "y=3+2x"),
        ("2x+3", "y = 2x + 3"),
        (r"\text{Area}=12", "12"), ("5=x", "5"), ("x=1/2=0.5", "1/2"),
    ],
    "intervals and inequalities": [
        (r"x \ge 2", r"[2,\infty)"), (r"[2,\infty)", r"x \geqslant 2"), ("k>=2", r"k \geqslant 2"),
        ("1 < x <= 2", "(1,2]"),
        (r"x \in [-2,7]", "[-2,7]"), ("[-2,7]", r"x \in [-2,7]"), (r"-2\le x\le 7", r"x \in [-2,7]"),
        ("(0,9)∪(9,36)", r"(9,36) \cup (0,9)"),
        (r"x<-1 \text{ or } x>2", r"(-\infty,-1)\cup(2,\infty)"), (r"(-\infty, 0]", r"x\le0"), ("2 < x", "x>2"),
        (r"\mathbb{R}", r"(-\infty,\infty)"),
        (r"[-1,-\frac{1}{2}]", "[-1,-0.5]"), ("n < 5", "5 > n"), ("2x > 4y", "x > 2y"),
    ],
    "bases": [
        ("4343_6", "4343_{6}"), ("4343", "4343_6"), (r"2A3_{12}", "2a3_{12}"),
        (r"4210_{\text{five}}", r"4210_{\text{five}}"),
    ],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}"),
        (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{pmatrix} -\frac13 \\ \frac23 \end{pmatrix}"),
        (r"\begin{bmatrix}x+1\\y\end{bmatrix}", r"\begin{pmatrix}1+x\\y\end{pmatrix}"),
        (r"(-2,-14,-7)", r"\begin{pmatrix} -2 \\ -14 \\ -7 \end{pmatrix}"),
        (r"\left(\begin{array}{cc}1&0\\0&1\end{array}\right)", r"\begin{pmatrix}1&0\\0&1\end{pmatrix}"),
    ],
    "words": [
        ("evelyn", r"\text{Evelyn}"), ("C", r"\text{(C)}"), ("(C)", "C"), (r"\text{even}", "Even"),
        ("no solution", r"\text{No solution}"),
        (r"\mathrm{east}", r"\text{east}"), (r"\text{Yes.}", "yes"),
    ],
    "equal in another form": [
        (r"\cosh(at)", r"\frac{1}{2} (e^{at} + e^{-at})"), (r"\sqrt{12}", r"2\sqrt{3}"),
        (r"\frac{1}{\sqrt3}", r"\frac{\sqrt{3}}{3}"),
        (r"11+11\sqrt5", r"11 \sqrt{5} + 11"), ("9i+6", "6+9i"), (r"(x-1)(x+1)", "x^2-1"),
        ("(b+2)(a+5)", "(a+5)(b+2)"), (r"\sqrt{25}", "5"),
        (r"2^{10}", "1024"), ("5!", "120"), (r"\binom{5}{2}", "10"), (r"\ln 8", r"3\ln 2"),
        (r"\frac{n^2+n}{2}", r"$\frac{n(n+1)}{2}$"),
        (r"2k^3+\frac{k^2-k}{2}", r"$k\left(4 k^{2}+k-1\right) / 2$"), (r"10x-14y+22z+8=0", "5x - 7y + 11z + 4 = 0"),
        ("by = c - ax", "ax+by=c"), (r"\sin(2x)", r"2\sin x\cos x"), (r"-(n-1)/2", r"\frac{1-n}{2}"),
        (r"e^{i\pi}", "-1"),
        (r"I(0)e^{-t/(RC)}", r"I(0)e^{-\frac{t}{RC}}"), ("18+2pi", r"18+2\pi"), ("2sqrt(3)", r"2\sqrt{3}"),
        ("3√2", r"3\sqrt{2}"),
        (r"\lfloor (n+1)/2\rfloor + 1", r"$\lceil n / 2\rceil+1$"), (r"\frac{2\pi}{\omega}", r"2 \pi / \omega"),
        (r"\log_2 8", "3"),
        (r"\frac{\cos(2t)}{15}", r"\frac{\cos (2 t)}{15}"), (r"x^3+3x-6", "x^{3} - 6 + 3x"),
        (r"2RC+R+C", r"C+R+2CR"), ("2**5", "32"),
        (r"\operatorname{asin}{\left(\frac{10}{13} \right)}", r"\arcsin{\frac{10}{13}}"),
        (r"\log 2 + i\pi/3", r"\ln 2 + \frac{i\pi}{3}"),
        (r"(\gamma^2-1) m_{p} c^{2} \sin^2\theta", r"m_{p} c^{2}(\gamma^{2}-1) \sin ^{2} \theta"),
        (r"\left(v+\frac12\right)\hbar\omega", r"\hbar \omega(v+1 / 2)"),
        (r"E_{0}^2/(2m)", r"\frac{E_0^{2}}{2 m}"), (r"y''+y=0", r"y^{\prime\prime}=-y"),
        (r"\cot x", r"\frac{\cos x}{\sin x}"), (r"\boxed{7}", "7"), (r"(-1)^{n+1}", r"-(-1)^n"),
    ],
}  # fmt: skip

WRONG: dict[str, list[tuple[str, str]]] = {
    "numbers": [
        ("5", "6"), ("-5", "5"), ("12345", "12346"), ("1/3", "0.33"), ("3.14", r"\pi"), ("0.3333", "1/3"),
        ("25", "250"), ("", "5"),
        ("1000000", "1000001"), ("0.1", "0"), ("1e-9", "0"), ("2", r"\sqrt{2}"),
    ],
    "thousands separators": [("1,234", "1.234"), ("1,234", "1,243"), ("12,34", "1234")],
    "scientific notation": [
        ("5e-28", "1.2e-27"), (r"1.2 \times 10^{-27}", r"1.2 \times 10^{-26}"), ("1e-10", "2e-10"),
        (r"10^{-3}", r"10^{3}"), ("0", "1.2e-27"),
    ],
    "percent": [("50%", "5"), ("5%", "0.5"), ("50", "0.5")],
    "degrees": [(r"60^\circ", r"120^\circ"), (r"120^\circ", r"12^\circ")],
    "currency": [(r"\$18.09", r"\$18.90")],
    "units": [
        ("5 cm", r"5\text{ m}"), ("5 inches", "5 feet"), (r"20^\circ F", r"20^{\circ}\text{C}"),
        (r"12\text{ in}^2", r"12\text{ in}^3"),
        (r"5\text{ m}", r"6\text{ m}"), ("6m", "6n"),
    ],
    "ordinals": [("5th", "6")],
    "mixed numbers": [(r"137 \frac{1}{2}", "68.5"), ("1 1/2", "11/2")],
    "points, sets and lists": [
        ("(2,1)", "(1,2)"), (r"\{1,2\}", "(1,2)"), ("(1,2,3)", "(1,2)"), ("1,2", "1,2,3"), ("1,1,2", "1,2,2"),
        ("(2,32), (18,8)", "(2,32), (8,18)"),
        (r"1 \pm \sqrt{19}", r"1+\sqrt{19}"), ("12", "1,2"), (r"\{1,2\}", r"\{1,3\}"), ("5", "5,-2"), ("2,1", "(1,2)"),
    ],
    "assignments": [
        ("y = 5", "x = 5"), ("x = 6", "5"), ("a=1,b=2", "a=2,b=1"), ("-2,3", "a=3,b=-2"), ("x=1", "1,2"),
        ("x=6=5", "5"),
    ],
    "intervals and inequalities": [
        ("[1,2]", "(1,2)"), (r"x > 2", r"[2,\infty)"), (r"x \le 2", r"x \ge 2"), ("(1,2]", "[1,2)"),
        (r"(0,9)\cup(9,36)", "(0,36)"), ("x>2", "x=2"),
        ("2x > 4y", "x < 2y"), ("(1,2)", r"\{1,2\}"), (r"x\ne 3", "x=3"), (r"x \ne 3", "3"),
    ],
    "bases": [("4343_7", "4343_6"), ("4344_6", "4343_6"), ("11_2", "11"), ("11_2", "3_{10}")],
    "matrices": [
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
        (r"\begin{pmatrix}1\\2\\3\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"(2,1)", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    ],
    "words": [
        ("Evan", r"\text{Evelyn}"), ("A", r"\text{(C)}"), (r"\text{odd}", "even"), ("5", r"\text{Evelyn}"),
        (r"\text{Evelyn}", "5"), ("yes", "no"),
    ],
    "free symbols": [
        ("x+a", "x+c"), (r"\gamma^2", r"\gamma^2-1"), ("2R", "2r"),
        ("f'(x)", "f(x)"), ("0.577215665", r"\gamma"), ("E_0", "E_1"), ("I", "i"), ("2", "E"), ("2x", "2y"),
        ("n+1", "k+1"), ("x", "5"), ("x^2", "x"), (r"\sin x", r"\sin y"),
        ("e^{at}", "e^{bt}"), ("a_1", "a_2"),
        (r"|x|", "x"), (r"\frac{n(n+1)}{2}", r"\frac{n(n-1)}{2}"),
        ("5x - 7y + 11z + 4 = 0", "5x - 7y + 11z - 4 = 0"), ("y=2x+3", "y=2x"),
        (r"\sqrt{a}+\sqrt{b}", r"\sqrt{a+b}"), ("2^{n}", "n^2"), (r"\lfloor n/2 \rfloor", r"\lceil n/2 \rceil"),
        ("6+9i", "6-9i"), ("pi", "e"), ("10^{20}+1", "10^{20}"),
        (r"10^{20}+\sqrt{2}", r"10^{20}+\sqrt{3}"), (r"\frac{1}{10^7}x", r"\frac{x}{10^7+1}"),
        ("1/2x", r"\frac{3x}{2}"),
        (r"\frac{0}{0}", "1"), ("x=y", "x=z"),
    ],
}  # fmt: skip

PAIRS: list[tuple[str, str, bool, str]] = [
    (answer, gold, verdict, trap)
    for verdict, table in ((True, RIGHT), (False, WRONG))
    for trap, pairs in table.items()
    for answer, gold in pairs
]
"""(answer, reference answer, whether they are equal, trap)"""
