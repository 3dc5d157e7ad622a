# Copyright the sgflow authors
# SPDX-License-Identifier: Apache-2.0
