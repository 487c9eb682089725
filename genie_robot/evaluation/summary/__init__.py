"""From the rows of an evaluation to its statement: how far does imagination rate policies as MuJoCo does?"""
