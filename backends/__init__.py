"""What a plan becomes: a PyTorch module that trains and runs (`torch`), or a picture (`diagram`). And how answers are
scored (`scoring`).
"""
